"""One plain PyTorch training loop over the batches of all clients, with PyTorch's own threads."""

from __future__ import annotations

import contextlib

from benchmarks import measure
from benchmarks.peers import parts


@contextlib.contextmanager
def torch_bare(workload):
    """Gives a function that trains on every client's batches once."""
    network = parts.model(workload)
    data = [parts.client_batches(workload, client) for client in range(workload.clients)]
    yield lambda: measure.Round(measure.mean(loss for batches in data for loss in parts.train(network, batches)))


if __name__ == "__main__":
    measure.main(torch_bare)
