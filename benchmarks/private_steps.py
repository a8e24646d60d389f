"""What privacy inside of the client costs: rounds of FedAvg with and without, in turns, in one process.

`python -m benchmarks.private_steps --workload=A --clients=10 --rounds=5`. A ratio is of two rounds of the same turn.
Processor time hardly depends on what else the machine does.
"""

from __future__ import annotations

import contextlib
import statistics
import time

from benchmarks import measure
from benchmarks.contenders import parts
from tff_tx import algorithms, runtime

_CLIP = 1.0


def variants(batch_size: int) -> dict[str, dict]:
    """Options of the algorithm by name; the first is what the others are compared with."""
    example, local = algorithms.dp_sgd, algorithms.local_dp
    return {
        "not private": {},
        "examples clipped": {"transforms": (example(_CLIP, 0.0, batch_size),)},
        "examples clipped and noised": {"transforms": (example(_CLIP, 1.0, batch_size),)},
        "2 microbatches clipped": {"transforms": (example(_CLIP, 0.0, batch_size, 2),)},
        "update clipped and noised": {"transforms": (local(_CLIP, 1.0),), "weighted": False},
    }


def main() -> None:
    """Runs the rounds and prints a row a variant."""
    options = measure.parse(__doc__)
    runtime.configure_tensorflow()
    clients = list(parts.Clients(options.workload))
    wall: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        engines, states = {}, {}
        for name, more in variants(options.workload.batch_size).items():
            process = parts.process(options.workload, **more)
            engines[name] = stack.enter_context(runtime.LocalEngine(process, parts.threads()))
            states[name] = engines[name].initialize()
        for turn in range(options.warmup + options.rounds):
            for name, engine in engines.items():
                started = time.perf_counter(), time.process_time()
                states[name] = engine.run_round(states[name], clients).state
                if turn >= options.warmup:
                    wall.setdefault(name, []).append(time.perf_counter() - started[0])
                    busy.setdefault(name, []).append(time.process_time() - started[1])
    steps = options.workload.clients * options.workload.batches
    print("| clients train | processor ms a step | x not private, processor time | x not private, wall time |")
    print("|---|---|---|---|")
    for name in wall:
        milliseconds = 1000 * statistics.median(busy[name]) / steps
        print(f"| {name} | {milliseconds:.1f} | {_ratio(busy, name)} | {_ratio(wall, name)} |")


def _ratio(seconds: dict[str, list[float]], name: str) -> str:
    """To the first variant, turn by turn: median and range."""
    ratios = [own / plain for own, plain in zip(seconds[name], next(iter(seconds.values())))]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


if __name__ == "__main__":
    main()
