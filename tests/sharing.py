"""Learning processes that several runs of a test's file share: to make one takes longer than their rounds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator

import pytest

from tff_tx.config import RunConfig
from tff_tx.run.assemble import assembly


@contextlib.contextmanager
def processes_by(key_fn: Callable[[RunConfig], Hashable]) -> Iterator[None]:
    """Makes a process once for all configurations of a key, models and numbers of clients; those of None their own.

    So do private runs, whose noise is their own, and runs with parts in place of the configuration's.
    """
    make, made = assembly._process, {}

    def process(config, model, num_clients, plan, parts):
        key = None if plan is not None or parts else key_fn(config)
        if key is None:
            return make(config, model, num_clients, plan, parts)
        whose = key, num_clients, model.fingerprint
        if whose not in made:
            made[whose] = make(config, model, num_clients, plan, parts)
        return made[whose]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "_process", process)
        yield
