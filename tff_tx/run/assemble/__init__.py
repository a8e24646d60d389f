"""The only place that puts the parts of a run together."""

from __future__ import annotations

from typing import Any

from tff_tx.config import RunConfig
from tff_tx.run.assemble.assembly import Assembly
from tff_tx.run.assemble.ensemble import EnsembleAssembly, group_configs
from tff_tx.run.assemble.processes import cluster, on_silos
from tff_tx.run.assemble.tasks import load_task
from tff_tx.tasks import FederatedTask


def assemble(
    config: RunConfig, task: FederatedTask, aggregator: Any = None, before: Assembly | None = None
) -> Assembly:
    """The parts of a run, of a configuration that is resolved and checked; see `Assembly.build`."""
    if config.ensemble.enabled:
        return EnsembleAssembly.build(config, task)
    return Assembly.build(config, task, aggregator, before)
