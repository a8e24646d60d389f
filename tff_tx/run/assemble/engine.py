"""The engine of a configuration, with its hooks."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from tff_tx import datasets, runtime
from tff_tx.aggregators import compression
from tff_tx.analysis import contribution
from tff_tx.config import RunConfig
from tff_tx.config.registries import ENGINES
from tff_tx.run.assemble.aggregation import engine_compressor, payload_encoder


def cluster(config: RunConfig) -> contextlib.AbstractContextManager:
    """The Ray cluster that the configuration names, or a new one; of None for other engines."""
    engine = config.engine
    if engine.name != "ray":
        return contextlib.nullcontext()
    return runtime.RayCluster(
        engine.ray_address, cpus=engine.num_threads, threads=engine.ray_cpus_per_worker, tls_dir=engine.ray_tls_dir
    )


def on_silos(config: RunConfig, found: runtime.RayCluster | None) -> Callable[..., Mapping] | None:
    """Calls functions where the data of silos are, see `RayCluster.on_silos`; None without silos."""
    return functools.partial(found.on_silos, names=list(config.data.silos)) if config.data.silos else None


def build_hooks(config: RunConfig) -> list[runtime.Hook]:
    """What intervenes between clients and the sum: FedBuff's staleness, error feedback, stored updates."""
    hooks, directory = [], config.run.directory
    if config.cohort.is_buffered:
        hooks.append(runtime.Staleness(config.cohort.max_staleness, config.cohort.staleness_exponent))
    if (compressor := engine_compressor(config)) is not None:
        residuals = None
        if config.compression.has_error_feedback:
            path = os.path.join(directory, "residuals")
            residuals = compression.ResidualStore(path, config.run.rounds_per_checkpoint)
        hooks.append(runtime.ClientCompression(compressor, residuals))
    if config.run.keep_updates:
        hooks.append(contribution.UpdateStore(directory))
    return hooks


def build_engine(
    config: RunConfig,
    process: Any,
    costs: Mapping[str, float],
    found: runtime.RayCluster | None = None,
    hooks: Sequence[runtime.Hook] = (),
) -> runtime.Engine:
    """The engine, for a `LearningProcess` of clients named by `tasks.client_arguments`; `costs` are theirs by id."""
    engine, precision = config.engine, config.client.mixed_precision

    def cost_fn(client):
        return costs[client["client_id"].decode()]

    if engine.name == "tff_native":
        return runtime.NativeEngine(process, engine.num_threads)
    if engine.name == "ray":
        return runtime.RayEngine(
            process,
            precision=precision,
            cluster=found,
            cost_fn=cost_fn,
            silo_fn=(lambda c: datasets.silo_of(c["client_id"].decode())) if config.data.silos else None,
            most_leaves=engine.ray_leaves,
            limits=runtime.Limits(client=engine.ray_client_seconds, worker=engine.ray_worker_seconds),
            hooks=hooks,
            encode=payload_encoder(config),
        )
    return ENGINES[engine.name](
        process, engine.num_threads, precision, payload_encoder(config), hooks=hooks, cost_fn=cost_fn
    )
