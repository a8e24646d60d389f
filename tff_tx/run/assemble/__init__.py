"""The only place that puts the parts of a run together."""

from __future__ import annotations

from typing import Any

from tff_tx.config import RunConfig
from tff_tx.run.assemble.assembly import Assembly
from tff_tx.run.assemble.engine import cluster, on_silos
from tff_tx.run.assemble.ensemble import EnsembleAssembly, group_configs
from tff_tx.run.assemble.tasks import load_task
from tff_tx.tasks import FederatedTask

__all__ = ["Assembly", "EnsembleAssembly", "assemble", "cluster", "group_configs", "load_task", "on_silos"]


def assemble(config: RunConfig, task: FederatedTask, aggregator: Any = None) -> Assembly | EnsembleAssembly:
    """The parts of a run.

    Args:
      config: The configuration, resolved and checked.
      task: Of `load_task`.
      aggregator: A `tff.aggregators` factory in place of the configuration's aggregation, or None.

    Raises:
      UserError: If they do not fit.
    """
    if config.ensemble.enabled:
        return EnsembleAssembly.build(config, task)
    return Assembly.build(config, task, aggregator)
