"""This project's in-process engine."""

from __future__ import annotations

from benchmarks import measure
from benchmarks.contenders import engines
from tff_tx import runtime


def local(workload):
    """Gives a function that runs a round of FedAvg."""
    return engines.rounds(runtime.LocalEngine, workload)


if __name__ == "__main__":
    measure.main(local)
