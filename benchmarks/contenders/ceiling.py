"""The plain training loop once a processor, single-threaded, side by side: what this machine can do at most.

Nothing is shared, averaged or sent, and no loop waits for another.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import time

from benchmarks import measure


@contextlib.contextmanager
def ceiling(workload):
    """Gives a function that has every process train on every client's batches once."""
    context = multiprocessing.get_context("spawn")
    number = len(os.sched_getaffinity(0))
    barrier, finished = context.Barrier(number), context.Value("l", 0)
    workers, pipes = [], []
    for _ in range(number):
        here, there = context.Pipe()
        workers.append(context.Process(target=_work, args=(workload, number, there, barrier, finished), daemon=True))
        workers[-1].start()
        pipes.append(here)

    def run_round():
        for pipe in pipes:
            pipe.send("go")
        results = [pipe.recv() for pipe in pipes]
        # As if the clients of one round had been shared out.
        seconds = 1.0 / sum(1.0 / seconds for seconds, _ in results)
        return measure.Round(measure.mean(loss for _, loss in results), seconds)

    try:
        yield run_round
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _work(workload, number, pipe, barrier, finished):
    # Imported here, as the process that only waits for the others needs none of it.
    import tensorflow as tf

    from benchmarks.contenders import parts

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    train = parts.training_loop(workload)
    rounds, others = 0, itertools.cycle(range(workload.clients))
    while True:
        pipe.recv()
        barrier.wait()
        started = time.perf_counter()
        losses = [loss for client in range(workload.clients) for loss in train(client)]
        seconds = time.perf_counter() - started
        rounds += 1
        with finished.get_lock():
            finished.value += 1
        while finished.value < rounds * number:  # the others' time is to be that of a busy machine to the end
            train(next(others))
        pipe.send((seconds, measure.mean(losses)))


if __name__ == "__main__":
    measure.main(ceiling)
