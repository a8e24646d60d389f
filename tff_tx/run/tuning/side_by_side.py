"""Arms side by side on a Ray cluster: each is trained in a process of its own, and goes on from its run directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from tff_tx.config import FIELDS, RunConfig
from tff_tx.run import assemble
from tff_tx.run.loop import NotFiniteError
from tff_tx.run.trainer import Trainer, load

_THREADS = "engine.threads"
Pool = Callable[[Sequence[RunConfig], int], None]
"""Trains runs up to a round."""


def alone(config: RunConfig) -> RunConfig:
    """The configuration of an arm in one process: the same, but for the engine."""
    engine = [path for path in FIELDS if path == "engine.name" or path.startswith("engine.ray_")]
    return config.replace({path: RunConfig().get(path) for path in engine})


def advance(config: RunConfig, rounds: int, study_dir: str) -> None:
    """Trains a run up to a round, on a node that has the study's directory; others leave it to one that has."""
    if not os.path.exists(study_dir):
        return
    with contextlib.suppress(NotFiniteError):  # whoever goes on finds that out
        Trainer(load(config, progress=False), progress=False).advance(rounds)


@contextlib.contextmanager
def pool(config: RunConfig, study_dir: str) -> Iterator[Pool]:
    """The cluster of a configuration with the engine `ray`, for the arms of a study.

    What a node does not do, as its worker ended or it does not have the directory, is left undone.
    """
    with assemble.cluster(config, has_workers=False) as cluster:

        def train(configs: Sequence[RunConfig], rounds: int) -> None:
            threads = config.engine.ray_cpus_per_worker
            cluster.each(advance, [(one.replace({_THREADS: threads}), rounds, study_dir) for one in configs])

        yield train
