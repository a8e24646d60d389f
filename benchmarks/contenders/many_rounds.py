"""A long run of the whole training loop (sampling, rounds, metrics, checkpoints) on a tiny task: what grows?"""

from __future__ import annotations

import json
import tempfile
import time

import numpy as np

from benchmarks import measure
from benchmarks.contenders import parts, small_task
from tff_tx import cohorts, runtime, tasks
from tff_tx.cohorts import devices as participation
from tff_tx.run import loop
from tff_tx.run.callbacks import MetricsCsv, TensorBoard

_COHORT = 5


def main() -> None:
    """Trains and prints the seconds of every round, of the same work beside each, and the memory at its beginning."""
    options = measure.parse(__doc__)
    runtime.configure_tensorflow()
    started, ended, yardstick, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as directory:
        task = small_task.create(directory, clients=100)
        sample = cohorts.uniform(task.train.client_ids, _COHORT, seed=1)

        def arguments(client_ids, round_num):
            ended.append(time.perf_counter())
            memory.append(measure.memory_bytes())
            yardstick.append(_same_work())
            started.append(time.perf_counter())
            return tasks.client_arguments(client_ids, 1, round_num)

        cohort_fn = participation.build_cohort_fn(sample, arguments)
        with runtime.LocalEngine(small_task.process(task), parts.threads()) as engine:
            loop.train(
                engine,
                directory,
                loop.Schedule(options.rounds),
                cohort_fn=cohort_fn,
                callbacks=[MetricsCsv(), TensorBoard()],
                show_progress=False,
            )
        ended.append(time.perf_counter())
        memory.append(measure.memory_bytes())
    result = {
        "rounds": options.rounds,
        "round_seconds": [end - start for start, end in zip(started, ended[1:])],
        "yardstick_seconds": yardstick,
        "memory_bytes": memory,
    }
    print(json.dumps(result))


def _same_work():
    """Seconds of some Python and some arithmetic, to tell a slower run from a slower machine."""
    begun, matrix = time.perf_counter(), np.full([200, 200], 0.01, np.float32)
    for _ in range(40):
        matrix = matrix @ matrix
    sum(i * i for i in range(40_000))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
