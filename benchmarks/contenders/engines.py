"""Rounds of this project's FedAvg on one of its engines, set up as `programs.train` does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Callable

from benchmarks import measure
from benchmarks.contenders import parts
from benchmarks.workloads import Workload
from tff_tx import runtime


@contextlib.contextmanager
def rounds(
    engine_class: type[runtime.Engine], workload: Workload, streaming: bool = False
) -> Iterator[Callable[[], measure.Round]]:
    """Gives a function that runs the next round.

    Args:
      engine_class: One of `runtime.ENGINES`.
      workload: What to train on whom.
      streaming: Whether the clients' datasets are made anew in every round, and not all held.
    """
    runtime.configure_tensorflow()
    clients = parts.Clients(workload)
    if not streaming:
        clients = list(clients)
    with engine_class(parts.process(workload), parts.threads()) as engine:
        state = engine.initialize()

        def run_round():
            nonlocal state
            output = engine.run_round(state, clients)
            state = output.state
            return parts.loss_of(output)

        yield run_round
