"""This project's in-process engine."""

from __future__ import annotations

import programs  # noqa: F401 -- first, as a program does, which defers part of what libraries do when imported

# isort: split
from benchmarks import measure
from benchmarks.contenders import engines
from tff_tx import runtime


def local(workload):
    """Gives a function that runs a round of FedAvg."""
    return engines.rounds(runtime.LocalEngine, workload)


if __name__ == "__main__":
    measure.main(local)
