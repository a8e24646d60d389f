"""Rounds of this project's FedAvg on one of its engines, set up as `programs.train` does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Callable

from benchmarks import measure, processes
from benchmarks.contenders import parts
from benchmarks.workloads import Workload
from tff_tx import runtime
from tff_tx.runtime import form_store

_FORMS = os.path.join(processes.ROOT, "benchmarks", "results", "forms")


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
    process = parts.process(workload)
    # As `programs.train` does: later starts find what the first has compiled.
    form = {"form": form_store.compiled(process, _FORMS)} if engine_class is runtime.LocalEngine else {}
    with engine_class(process, parts.threads(), **form) as engine:
        state = engine.initialize()

        def run_round():
            nonlocal state
            output = engine.run_round(state, clients)
            state = output.state
            return parts.loss_of(output)

        yield run_round
