"""What a state of each client costs, as clients become more: `python -m benchmarks.client_states`.

Rounds of as many clients each, of FedAvg, of FedPer, whose clients have a head each, and of SCAFFOLD, whose clients
retain a control variate of the model's size, in populations of which each client has retained its state already.
Clients have two pictures and next to nothing to compute, so that what is measured is how states are read and written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
import psutil

from benchmarks import report
from benchmarks.contenders import parts, small_task
from tff_tx import algorithms, cohorts, runtime, tasks

CONTENDERS = {
    "fed_avg": ("fed_avg", {}, None),
    "fed_per": ("fed_avg", {"personal": "head"}, runtime.PersonalWeights),
    "scaffold": ("scaffold", {}, runtime.RetainedState),
}
"""By name: an algorithm, settings of the model, and by which hook clients retain a state."""


def measure(population: int, clients: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round after the first by algorithm, and MB by which the process grew in rounds with states.

    Args:
      population: How many clients there are.
      clients: A round.
      rounds: How many after the first.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        task, running = small_task.create(directory, population), {}
        for name, (algorithm, settings, hook) in CONTENDERS.items():
            own = dataclasses.replace(task, model=small_task.create_model(task.preprocessing.x_spec, **settings))
            hooks = [] if hook is None else [hook(_store(os.path.join(directory, name), own))]
            options = dataclasses.replace(small_task.OPTIONS, num_clients=population, weighted=False)
            process = own.process(algorithms.ALGORITHMS[algorithm].build(own.model, options))
            engine = stack.enter_context(runtime.LocalEngine(process, parts.threads(), hooks=hooks))
            running[name] = engine, engine.initialize()
        figures, before = {name: [] for name in running}, 0
        for round_num in range(rounds + 1):
            chosen = np.random.default_rng(round_num).choice(task.train.client_ids, clients, replace=False)
            arguments = tasks.client_arguments([str(c) for c in chosen], 1, round_num)
            for name, (engine, state) in running.items():
                started = time.perf_counter()
                running[name] = engine, engine.run_round(state, arguments).state
                engine.checksums(round_num + 1)  # as a checkpoint after each round needs them
                if round_num:
                    figures[name].append(time.perf_counter() - started)
            before = before or psutil.Process().memory_info().rss
        return {**figures, "grown_mb": [(psutil.Process().memory_info().rss - before) / 1e6]}


def _store(directory: str, task: tasks.FederatedTask) -> cohorts.ClientStore:
    """What each client has retained: its head, or of a model without such its control variate."""
    store, model = cohorts.ClientStore(directory, 2), task.model
    trainable, others = model.initial_weights
    state = others[-model.num_personal :] if model.num_personal else [np.int32(1), *map(np.zeros_like, trainable)]
    for client_id in task.train.client_ids:
        store.write(client_id, 0, state)
    return store


def describe(found: Sequence[tuple[int, dict[str, list[float]]]]) -> str:
    """A table: a row a population."""
    rows = [
        [f"{population:,}", *(report.spread(figures[name]) for name in CONTENDERS)]
        + [report.spread(report.paired_ratios(figures[name], figures["fed_avg"])) for name in ("fed_per", "scaffold")]
        + [report.spread(figures["grown_mb"], 0)]
        for population, figures in found
    ]
    titles = ["FedAvg", "FedPer", "SCAFFOLD"]
    return report.table(
        ["clients", *(f"s, {title}" for title in titles), *(f"ratio, {title}" for title in titles[1:]), "MB grown"],
        rows,
    )


def main() -> int:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/client_states.json")
    parser.add_argument("--population", action="append", type=int, help="clients; several: 1000 and 100000")
    parser.add_argument("--clients", type=int, default=100, help="a round")
    parser.add_argument("--rounds", type=int, default=20, help="rounds that are measured, after the first")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    machine = report.machine()
    found = [(p, measure(p, flags.clients, flags.rounds)) for p in flags.population or [1000, 100_000]]
    print(describe(found))
    print(f"Written to {report.write('client_states', {'machine': machine, 'found': found}, flags.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
