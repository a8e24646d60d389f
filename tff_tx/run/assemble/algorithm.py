"""The learning process of a configuration."""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx import algorithms, models
from tff_tx.config import RunConfig
from tff_tx.config.registries import ALGORITHMS


def build_options(config: RunConfig, **parts: Any) -> algorithms.Options:
    """The parts of the algorithm; `parts` are fields of `algorithms.Options` that aggregation and others decide."""
    client = config.client
    more = {name: getattr(client, name) for name in ("momentum", "weight_decay", "clip_norm")}
    return algorithms.Options(
        client_optimizer_fn=functools.partial(algorithms.build_optimizer, client.optimizer, **more),
        server_optimizer=_server_optimizer(config),
        client_learning_rate=client.learning_rate,
        client_schedule=_schedule(config, client.schedule, client.learning_rate),
        transforms=client_transforms(config),
        **parts,
    )


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
    if name is None and not warmup:
        return None
    return algorithms.build_schedule(name or "constant", peak, warmup, config.run.rounds)


def server_rates(config: RunConfig) -> np.ndarray | None:
    """The server's rate of each round, float [rounds]; None: it is constant."""
    schedule = _schedule(config, config.server.schedule, config.server.learning_rate)
    return None if schedule is None else np.array([float(schedule(t)) for t in range(config.run.rounds)])


def build_process(
    config: RunConfig, model: models.TransformerModel, options: algorithms.Options
) -> tff.learning.templates.LearningProcess:
    """The learning process, of clients given as datasets of batches."""
    algorithm = ALGORITHMS[config.algorithm.name]
    aggregation = config.lora.aggregation if config.model.trainable == "lora" else "average"
    return algorithms.build_process(algorithm, model, options, aggregation)
