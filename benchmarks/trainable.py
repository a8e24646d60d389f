"""What a round costs in time and traffic by what is trained: `python -m benchmarks.trainable`.

All weights, adapters of rank 8 on queries and values (once as x W + s (x A) B within the layers, as the project
computes them, once as the weight W + s A B), biases, and the head alone; the local engine, one process, taking turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
import time

from benchmarks import report
from benchmarks.contenders import parts
from benchmarks.workloads import WORKLOADS
from tff_tx import models, runtime

RANK = 8
WAYS = {
    "all": {},
    "lora": {"trainable": "lora", "lora": models.Lora(ranks=(RANK,))},
    "lora as W + s A B": {"trainable": "lora", "lora": models.Lora(ranks=(RANK,), in_layers=False)},
    "bias": {"trainable": "bias"},
    "head": {"trainable": "head"},
}


def measure(workload, ways: dict, rounds: int) -> dict[str, dict]:
    """By way, the seconds and processor seconds of each round after the first, and the bytes from and to a client.

    Args:
      workload: Of `benchmarks.workloads`.
      ways: By name, arguments of `parts.process`.
      rounds: How many are timed.
    """
    clients, figures = list(parts.Clients(workload)), {}
    with contextlib.ExitStack() as stack:
        engines = {}
        for name, arguments in ways.items():
            engine = stack.enter_context(runtime.LocalEngine(parts.process(workload, **arguments), parts.threads()))
            traffic = engine.traffic()
            figures[name] = {"seconds": [], "cpu_seconds": [], "bytes": traffic.download_bytes + traffic.upload_bytes}
            engines[name] = engine, engine.run_round(engine.initialize(), clients).state
        for _ in range(rounds):
            for name, (engine, state) in engines.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                engines[name] = engine, engine.run_round(state, clients).state
                cpu = time.process_time() - cpu_started
                figures[name]["seconds"].append(time.perf_counter() - started)
                figures[name]["cpu_seconds"].append(cpu)
                print(f"{name}: {figures[name]['seconds'][-1]:.2f} s, {cpu:.2f} of processors", file=sys.stderr)
    return figures


def tell(figures: dict[str, dict], examples: int) -> str:
    """A table: a row a way; ratios are within a turn."""
    full = figures["all"]
    rows = [
        [
            name,
            f"{1000 * statistics.median(f['seconds']) / examples:.1f}",
            report.spread(report.paired_ratios(full["seconds"], f["seconds"])),
            report.spread(report.paired_ratios(full["cpu_seconds"], f["cpu_seconds"])),
            f"{f['bytes'] / 1e6:,.2f}",
            f"{100 * f['bytes'] / full['bytes']:.2f} %",
        ]
        for name, f in figures.items()
    ]
    return report.table(
        ["trained", "ms an example", "times as fast as all", "by processor time", "MB a client", "of all"], rows
    )


def main() -> int:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/trainable.json")
    parser.add_argument("--workload", choices=WORKLOADS, default="B")
    parser.add_argument("--clients", type=int, help="clients a round; default: the workload's")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are measured, after one that is not")
    parser.add_argument("--ways", action="append", choices=WAYS, help="besides all; may be given several times")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    workload = WORKLOADS[flags.workload]
    if flags.clients:
        workload = dataclasses.replace(workload, clients=flags.clients)
    ways = {name: WAYS[name] for name in WAYS if name == "all" or name in (flags.ways or WAYS)}
    figures = measure(workload, ways, flags.rounds)
    print(tell(figures, workload.examples_per_round))
    path = report.write("trainable", {"machine": report.machine(), "ways": figures}, flags.output)
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
