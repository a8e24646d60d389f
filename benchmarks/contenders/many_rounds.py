"""A long run of the whole training loop (sampling, rounds, metrics, checkpoints) on a tiny task: what grows?"""

from __future__ import annotations

import json
import tempfile
import time

from benchmarks import measure
from benchmarks.contenders import parts, small_task
from tff_tx import cohorts, participation, runtime, tasks, training

_COHORT = 5


def main() -> None:
    """Trains and prints the seconds of every round and the memory at its beginning."""
    options = measure.parse(__doc__)
    runtime.configure_tensorflow()
    started, memory = [], []
    with tempfile.TemporaryDirectory() as directory:
        task = small_task.create(directory, clients=100)
        sample = cohorts.uniform(task.train.client_ids, _COHORT, seed=1)

        def arguments(client_ids, round_num):
            memory.append(measure.memory_bytes())
            started.append(time.perf_counter())
            return tasks.client_arguments(client_ids, 1, round_num)

        cohort_fn = participation.build_cohort_fn(sample, arguments)
        with runtime.LocalEngine(small_task.process(task), parts.threads()) as engine:
            training.train(
                engine, directory, training.Schedule(options.rounds), cohort_fn=cohort_fn, show_progress=False
            )
        started.append(time.perf_counter())
        memory.append(measure.memory_bytes())
    seconds = [after - before for before, after in zip(started, started[1:])]
    print(json.dumps({"rounds": options.rounds, "round_seconds": seconds, "memory_bytes": memory}))


if __name__ == "__main__":
    main()
