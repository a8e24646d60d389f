"""One plain TensorFlow training loop over the batches of all clients, with TensorFlow's own threads."""

from __future__ import annotations

import contextlib

from benchmarks import measure
from benchmarks.contenders import parts


@contextlib.contextmanager
def bare(workload):
    """Gives a function that trains on every client's batches once."""
    train = parts.training_loop(workload)
    yield lambda: measure.Round(measure.mean(loss for c in range(workload.clients) for loss in train(c)))


if __name__ == "__main__":
    measure.main(bare)
