"""This project's in-process engine over clients whose data are made when it asks for them, as when read from disk."""

from __future__ import annotations

import programs  # noqa: F401 -- first, as in `local`

# isort: split
from benchmarks import measure
from benchmarks.contenders import engines
from tff_tx import runtime


def local_streaming(workload):
    """Gives a function that runs a round of FedAvg."""
    return engines.rounds(runtime.LocalEngine, workload, streaming=True)


if __name__ == "__main__":
    measure.main(local_streaming)
