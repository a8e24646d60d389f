"""What making the functions of clients' pipelines ready for one device saves: `python -m benchmarks.small_clients`.

Clients with two pictures and next to nothing to compute, read from their store, on the local engine. Two engines of one
process take turns with the same clients: for one the functions are as TensorFlow makes them, for the other as
`runtime.internals.computations.simplify_functions` has them. The last column shows that both train the same.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from unittest import mock

import numpy as np

from benchmarks import report
from benchmarks.contenders import parts, small_task
from tff_tx import runtime, tasks

USUAL, SIMPLE = "as TensorFlow makes them", "for one device"


def measure(clients: int, rounds: int) -> dict[str, dict]:
    """By way, seconds and processor seconds of each round after the first, and the weights after the last.

    Args:
      clients: A round; the same in each.
      rounds: How many after the first.
    """
    figures = {way: {"seconds": [], "processor_seconds": []} for way in (USUAL, SIMPLE)}
    with contextlib.ExitStack() as stack:
        task = small_task.create(stack.enter_context(tempfile.TemporaryDirectory()), clients)
        running = {}
        for way in figures:
            with mock.patch("tff_tx.runtime.graphs.simplify_functions") if way == USUAL else contextlib.nullcontext():
                engine = stack.enter_context(runtime.LocalEngine(small_task.process(task), parts.threads()))
            running[way] = engine, engine.initialize()
        for round_num in range(rounds + 1):
            arguments = tasks.client_arguments(task.train.client_ids, 1, round_num)
            for way, (engine, state) in running.items():
                clock, processor = time.perf_counter(), time.process_time()
                running[way] = engine, engine.run_round(state, arguments).state
                if round_num:
                    figures[way]["seconds"].append(time.perf_counter() - clock)
                    figures[way]["processor_seconds"].append(time.process_time() - processor)
        for way, (engine, state) in running.items():
            weights = engine.model_weights(state).trainable
            figures[way]["weights"] = np.concatenate([w.ravel() for w in weights]).tolist()
    return figures


def tell(figures: dict[str, dict], clients: int) -> str:
    """A table: a row a way, milliseconds a client; ratios are within a turn."""
    first, rows = figures[USUAL], []
    for way, found in figures.items():
        ratios = [report.paired_ratios(first[part], found[part]) for part in ("seconds", "processor_seconds")]
        difference = np.abs(np.subtract(found["weights"], first["weights"])).max()
        rows.append(
            [
                way,
                report.spread(found["seconds"], 1, 1000 / clients),
                report.spread(ratios[0]),
                report.spread(found["processor_seconds"], 1, 1000 / clients),
                report.spread(ratios[1]),
                f"{difference:.0e}",
            ]
        )
    header = ["functions", "ms a client", "times as fast", "processor ms", "by processor time", "weights differ by"]
    return report.table(header, rows)


def main() -> int:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/small_clients.json")
    parser.add_argument("--clients", type=int, default=100, help="a round, with two pictures each")
    parser.add_argument("--rounds", type=int, default=10, help="rounds that are measured, after the first")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    machine = report.machine()
    figures = measure(flags.clients, flags.rounds)
    print(tell(figures, flags.clients))
    print(f"Written to {report.write('small_clients', {'machine': machine, 'ways': figures}, flags.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
