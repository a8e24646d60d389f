"""Rounds with clients out of many, read from their store: does their number matter?"""

from __future__ import annotations

import json
import tempfile
import time

import tensorflow_federated as tff

from benchmarks import measure
from benchmarks.contenders import parts, small_task
from tff_tx import runtime, tasks

_COHORT = 100


def main() -> None:
    """Runs rounds over `--clients` clients and prints the seconds of each, sampling included."""
    options = measure.parse(__doc__)
    runtime.configure_tensorflow()
    seconds = []
    with tempfile.TemporaryDirectory() as directory:
        task = small_task.create(directory, options.workload.clients)
        sample = tff.simulation.build_uniform_sampling_fn(task.train.client_ids, random_seed=1)
        with runtime.LocalEngine(small_task.process(task), parts.threads()) as engine:
            state = engine.initialize()
            for round_num in range(1, options.warmup + options.rounds + 1):
                started = time.perf_counter()
                cohort = sample(round_num, min(_COHORT, options.workload.clients))
                state = engine.run_round(state, tasks.client_arguments(cohort, 1, round_num)).state
                seconds.append(time.perf_counter() - started)
    result = {"clients": options.workload.clients, "round_seconds": seconds[options.warmup :]}
    print(json.dumps({**result, "peak_memory_bytes": measure.peak_memory_bytes()}))


if __name__ == "__main__":
    main()
