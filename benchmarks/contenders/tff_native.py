"""TFF's C++ runtime, started by this project's engine, running this project's process."""

from __future__ import annotations

from benchmarks import measure
from benchmarks.contenders import engines
from tff_tx import runtime


def tff_native(workload):
    """Gives a function that runs a round of FedAvg."""
    return engines.rounds(runtime.NativeEngine, workload)


if __name__ == "__main__":
    measure.main(tff_native)
