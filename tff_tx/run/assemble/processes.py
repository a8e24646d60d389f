"""The learning process of a configuration, and the engine that runs it, with its hooks."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx import algorithms, cohorts, datasets, models, runtime
from tff_tx.analysis import contribution
from tff_tx.cohorts.client_store import CLIENT_STATES, RESIDUALS
from tff_tx.config import FIELDS, RunConfig, laws
from tff_tx.config.algorithm import RATE_FACTORS
from tff_tx.config.capability_rules import STORED
from tff_tx.config.registries import ALGORITHMS, ENGINES
from tff_tx.privacy import Plan
from tff_tx.run.assemble import personal, secure
from tff_tx.run.assemble.aggregation import engine_compressor, payload_encoder
from tff_tx.runtime import form_store
from tff_tx.runtime.internals.stacks import without_stacks

_OWN_FIELDS = (
    *("personal_epochs", "moreau_steps", "mixing", "mixing_rate", "clusters", "cluster_spread"),
    *("dynamic_strength", "inner_learning_rate", "hessian_step", "extrapolation_epsilon"),
)
"""Settings of algorithms that `algorithms.Options` has by the same name."""


def build_options(config: RunConfig, model: models.TransformerModel | None = None, **parts: Any) -> algorithms.Options:
    """The parts of the algorithm.

    Args:
      config: The configuration.
      model: The model whose trainable weights clients train; None: one without adapters.
      **parts: Fields of `algorithms.Options` that aggregation and others decide.
    """
    client = config.client
    more = {name: getattr(client, name) for name in ("momentum", "weight_decay", "clip_norm")}
    optimizer_fn = functools.partial(algorithms.build_optimizer, client.optimizer, **more)
    if model is not None and model.adapters:
        factor, freeze_a = config.lora.learning_rate_factor, model.lora.freeze_a
        places = [at for found in model.adapter_positions for at in ([found.b] if freeze_a else [found.a, found.b])]
        optimizer_fn = functools.partial(
            algorithms.build_adapter_optimizer, optimizer_fn, places, learning_rate_factor=factor
        )
    return algorithms.Options(
        client_optimizer_fn=optimizer_fn,
        server_optimizer=_server_optimizer(config),
        client_learning_rate=config.client_learning_rate,
        client_schedule=_schedule(config, client.schedule, config.client_learning_rate),
        transforms=client_transforms(config),
        personal_strength=config.algorithm.own_strength,
        client_choices=_client_choices(config),
        **{name: getattr(config.algorithm, name) for name in _OWN_FIELDS},
        clients_per_round=config.cohort.buffer_size or config.cohort.clients_per_round,
        **parts,
    )


def _client_choices(config):
    """What clients of FedEx draw, each by name in the section `client`."""
    if config.algorithm.name != "fed_ex":
        return ()
    rates = [factor * config.client_learning_rate for factor in RATE_FACTORS]
    given = config.algorithm.client_choices or {FIELDS["client.learning_rate"].flag: rates}
    names = {FIELDS[path].flag: FIELDS[path].name for path in laws.CHOICES}
    lists = {names[flag]: values for flag, values in given.items()}
    if "epochs" in lists:  # a client gets the batches of all epochs, and draws a share of them
        lists["epochs"] = [value / config.client.num_epochs for value in lists["epochs"]]
    return tuple(tuple(zip(lists, values)) for values in itertools.product(*lists.values()))


def client_transforms(config: RunConfig) -> tuple[algorithms.ClientTransform, ...]:
    """The transforms of the clients' step."""
    own, example, local = config.algorithm, config.example_privacy, config.local_privacy
    found = []
    if own.name == "fed_prox":
        found.append(algorithms.proximal(own.proximal_strength))
    if own.distills:
        details = (own.distillation_strength, own.distillation_temperature, own.distillation_models)
        found.append(algorithms.distill(*details))
    if example.clip_norm is not None:
        details = (example.clip_norm, example.noise_multiplier, config.client.batch_size, example.microbatches)
        found.append(algorithms.dp_sgd(*details))
    if local.clip_norm is not None:
        found.append(algorithms.local_dp(local.clip_norm, local.noise_multiplier))
    if config.client.gradient_accumulation_steps > 1:
        found.append(algorithms.accumulate(config.client.gradient_accumulation_steps))
    return tuple(found)


def _server_optimizer(config):
    server = config.server
    optimizer = algorithms.build_optimizer(
        server.optimizer, server.learning_rate, momentum=server.momentum, epsilon=server.epsilon
    )
    schedule = _schedule(config, server.schedule, server.learning_rate)
    return optimizer if schedule is None else algorithms.schedule_learning_rate(optimizer, schedule)


def _schedule(config, name, peak) -> Callable | None:
    """The rate by round, counted from 0; None: it is constant."""
    warmup = config.algorithm.warmup_rounds
    name = name or "constant"
    if name == "constant" and not warmup:
        return None
    return algorithms.build_schedule(name, peak, warmup, config.run.rounds)


def is_scheduled(config: RunConfig) -> bool:
    """Whether rates depend on the number of rounds."""
    rates = (config.client.schedule, config.client_learning_rate), (config.server.schedule, config.server.learning_rate)
    return any(_schedule(config, name, peak) is not None for name, peak in rates)


def server_rates(config: RunConfig) -> np.ndarray | None:
    """The server's rate of each round, float [rounds]; None: it is constant."""
    schedule = _schedule(config, config.server.schedule, config.server.learning_rate)
    return None if schedule is None else np.array([float(schedule(t)) for t in range(config.run.rounds)])


@without_stacks()
def build_process(
    config: RunConfig, model: models.TransformerModel, options: algorithms.Options
) -> tff.learning.templates.LearningProcess:
    """The learning process, of clients given as datasets of batches."""
    algorithm = ALGORITHMS[config.algorithm.name]
    aggregation = config.lora.aggregation if config.model.trainable == "lora" else "average"
    return algorithms.build_process(algorithm, model, options, aggregation)


def cluster(config: RunConfig, has_workers: bool = True) -> contextlib.AbstractContextManager:
    """The Ray cluster that the configuration names, or a new one, or its federation; of None for other engines.

    `has_workers` is as of `RayCluster`.
    """
    engine = config.engine
    if engine.name == "federation":
        from tff_tx.run.assemble.federations import Federation

        return Federation(config)
    if engine.name != "ray":
        return contextlib.nullcontext()
    return runtime.RayCluster(
        engine.ray_address,
        cpus=engine.num_threads,
        threads=engine.ray_cpus_per_worker,
        tls_dir=engine.ray_tls_dir,
        has_workers=has_workers,
    )


def on_silos(config: RunConfig, found: Any) -> Callable[..., Mapping] | None:
    """Calls functions where the data of silos are, by what `cluster` gives; None without silos."""
    if config.engine.name == "federation":
        return found.on_silos
    return functools.partial(found.on_silos, names=list(config.data.silos)) if config.data.silos else None


def build_hooks(config: RunConfig, plan: Plan | None = None) -> list[runtime.Hook]:
    """What intervenes between clients and the sum: noise, masks, FedBuff's staleness, clients' states, codes, updates.

    `plan` is that of a private run.
    """
    hooks, directory = secure.build_hooks(config, plan), config.run.directory
    if config.cohort.is_buffered:
        hooks.append(runtime.Staleness(config.cohort.max_staleness, config.cohort.staleness_exponent))
    if STORED.holds(config):
        hooks.append(personal.build_hook(config))
    if ALGORITHMS[config.algorithm.name].client_state:
        hooks.append(runtime.RetainedState(_client_store(config, CLIENT_STATES)))
    if (compressor := engine_compressor(config)) is not None:
        residuals = None
        if config.compression.has_error_feedback:
            residuals = _client_store(config, RESIDUALS)
        hooks.append(runtime.ClientCompression(compressor, residuals))
    if config.cohort.is_adaptive:
        hooks.append(cohorts.LossObserver(cohorts.Feedback(directory)))
    if config.run.keep_updates:
        hooks.append(contribution.UpdateStore(directory))
    return hooks


def _client_store(config: RunConfig, name: str) -> cohorts.ClientStore:
    # A resume goes back as far as to the last checkpoint but one.
    return cohorts.ClientStore(os.path.join(config.run.directory, name), 2 * config.run.rounds_per_checkpoint)


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
    # A process with differential privacy is compiled anew: what noise is made from is nowhere but in its run.
    stored = engine.name == "local" and not laws.is_private(config)
    forms = os.path.join(datasets.cache_directory(config.data.cache_dir), "forms")
    form = {"form": form_store.compiled(process, forms)} if stored else {}
    return ENGINES[engine.name](
        process, engine.num_threads, precision, payload_encoder(config), hooks=hooks, cost_fn=cost_fn, **form
    )
