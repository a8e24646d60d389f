"""Aggregation from a configuration: the stack of aggregators, compression in both directions, and central DP."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Callable

import psutil
import tensorflow_federated as tff

from tff_tx import aggregators
from tff_tx.aggregators import compression, dp
from tff_tx.config import RunConfig
from tff_tx.config.aggregation import ADAPTIVE, NONE
from tff_tx.config.privacy import MOST_BANDS
from tff_tx.config.registries import AGGREGATORS, ALGORITHMS
from tff_tx.config.run_config import describe
from tff_tx.core.errors import UserError, setting
from tff_tx.core.integer_grid import IntegerGrid
from tff_tx.privacy import Plan
from tff_tx.run.assemble.cohorts import largest_cohort

_METRIC_BOUNDS = {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def build_aggregation(config: RunConfig) -> dict[str, Any]:
    """The fields of `algorithms.Options` that aggregation and compression decide.

    Returns:
      `weighted`; `aggregator`, None for the algorithm's own; `sends_loss`; and `distributor_fn`, None if the model is
      broadcast as it is; with secure aggregation `figures_sum`, too.
    """
    settings, sums = config.aggregation, _secure_sums(config)
    counts = None if sums is None else sums.figures
    norms = ((settings.norm("zeroing_norm"), aggregators.zeroing), (settings.norm("clip_norm"), aggregators.clipping))
    layers = [layer(None if norm == ADAPTIVE else norm, counts) for norm, layer in norms if norm is not None]
    innermost = _innermost(config) if sums is None else _secure_innermost(config, sums)
    if innermost is None and layers:
        innermost = aggregators.mean_factory()
    return {
        "weighted": is_weighted(config),
        "aggregator": None if innermost is None else aggregators.stack(*layers, innermost),
        "sends_loss": settings.attention_key == "loss",
        "distributor_fn": _distributor_fn(config),
        "figures_sum": counts,
    }


def is_weighted(config: RunConfig) -> bool:
    """Whether clients count by their number of examples: by default, unless the updates are private."""
    if config.algorithm.weighted is not None:
        return config.algorithm.weighted
    if "example_weighting" not in ALGORITHMS[config.algorithm.name].capabilities:
        return False
    return not config.privacy.enabled and config.local_privacy.clip_norm is None


def _innermost(config):
    """Aggregates updates, or what is decoded from their codes; None: the algorithm's own mean."""
    name = config.aggregation.aggregator
    inner = None if name == "mean" else AGGREGATORS[name].build(config.aggregation, config.cohort)
    if config.compression.upload == NONE or _compresses_in_engine(config):
        return inner
    if inner is None:
        mean = tff.aggregators.MeanFactory if is_weighted(config) else tff.aggregators.UnweightedMeanFactory
        return mean(compressed_sum(config))
    weighted = isinstance(inner, tff.aggregators.WeightedAggregationFactory)
    factory = compression.WeightedCompressedFactory if weighted else compression.CompressedFactory
    return factory(_compressor(config, config.compression.upload), inner, config.run.seed)


def _secure_sums(config):
    """The sums that everything passes, of levels as a quantizer or the bits of the sum have them; None: not secure."""
    settings, clients = config.aggregation, largest_cohort(config)
    if settings.secure == NONE:
        return None
    upload, bits = config.compression.upload, settings.secure_bits
    if upload != NONE:
        bits = int(upload[-1]) + (clients - 1).bit_length()
    grid = {"stochastic": not upload.startswith("uniform"), "rotate": upload.startswith("rotated")}
    try:
        values = aggregators.GridSumFactory(bits, clients, **grid, seed=config.run.seed)
    except ValueError as error:
        raise UserError(
            f"{describe(config, 'aggregation.secure_bits')}: {error} Raise it, or lower "
            f"{setting('cohort.clients_per_round')}."
        ) from error
    return aggregators.SecureSums(values, aggregators.FigureSumFactory())


def _secure_innermost(config, sums):
    return AGGREGATORS[config.aggregation.aggregator].build_secure(config.aggregation, sums, is_weighted(config))


def compressed_sum(
    config: RunConfig, finalize: Callable[[Any], Any] | None = None
) -> compression.CompressedSumFactory | None:
    """Sums what is decoded from clients' codes and finalized; None if updates are not compressed."""
    if config.compression.upload == NONE:
        return None
    return compression.CompressedSumFactory(_compressor(config, config.compression.upload), config.run.seed, finalize)


def _compresses_in_engine(config):
    """Whether updates are compressed between client and sum: to retain residuals, or to be scaled when decoded."""
    return config.compression.has_error_feedback or config.cohort.is_buffered


def engine_compressor(config: RunConfig) -> compression.Compressor | None:
    """The compressor of updates for an engine's hook; None: they are not compressed, or by the aggregator."""
    if config.compression.upload == NONE or not _compresses_in_engine(config):
        return None
    return _compressor(config, config.compression.upload, config.compression.has_error_feedback)


def payload_encoder(config: RunConfig) -> Callable[[Any], bytes] | None:
    """Encodes payloads, so that their bytes are measured; None if nothing is compressed."""
    uploads = config.compression.upload if config.aggregation.secure == NONE else NONE
    return None if uploads == config.compression.download == NONE else compression.encode


def _distributor_fn(config):
    """From a function of initial weights to the distributor of compressed changes."""
    if config.compression.download == NONE:
        return None
    compressor = _compressor(config, config.compression.download, error_feedback=True)
    return functools.partial(compression.build_delta_distributor, compressor=compressor, seed=config.run.seed)


def _compressor(config, name, error_feedback=False):
    return compression.build_compressor(name, config.compression.fraction, config.compression.rank, error_feedback)


def client_state_bytes(
    config: RunConfig, trainable_bytes: int, personal_bytes: int, num_clients: int, cohort_size: int
) -> int:
    """Maximum number of bytes of what clients keep between rounds: residuals, personal weights and control variates."""
    shared = config.compression.has_error_feedback + ALGORITHMS[config.algorithm.name].client_state
    clients = min(num_clients, cohort_size * config.run.rounds)
    return (shared * trainable_bytes + personal_bytes) * (
        clients + cohort_size * (2 * config.run.rounds_per_checkpoint + 1)
    )


def check_memory(config: RunConfig, num_parameters: int) -> None:
    """Checks that an aggregator that holds a round's updates at once has the memory for all trainable parameters.

    Raises:
      UserError: If it does not.
    """
    if not AGGREGATORS[config.aggregation.aggregator].needs_all_updates:
        return
    # The rows, and as much again while the largest block is put together.
    needed = 2 * 4 * num_parameters * config.cohort.clients_per_round
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{describe(config, 'aggregation.aggregator')} holds the updates of all clients of a round at once: "
            f"{needed / 1e9:.1f} GB for {describe(config, 'cohort.clients_per_round')}, and {free / 1e9:.1f} GB are "
            f"free: lower {setting('cohort.clients_per_round')}, train fewer weights, or use centered_clipping, which "
            "adds updates up."
        )


def private_parts(plan: Plan) -> dict[str, Any]:
    """The fields of `algorithms.Options` that client-level privacy decides, over those of `build_aggregation`.

    Noise is seeded here: with privacy.noise_seed, else with the operating system's randomness.

    Returns:
      `weighted`, False; `aggregator` and `fixed_denominator`; and `metrics_aggregator`, None for exact metrics.
    """
    own = {"aggregator": _private(plan), "fixed_denominator": True}
    return {"weighted": False, **own, "metrics_aggregator": _private_metrics(plan)}


def _private(plan):
    settings = plan.settings.privacy
    if settings.is_distributed:
        return dp.discrete_aggregator(simulated_grid(plan), plan.clients_per_round, plan.settings.run.seed)
    key, clip = dp.noise_key(settings.noise_seed), settings.clip_norm
    if settings.mechanism == "adaptive":
        count_stddev = plan.ledger.mechanism.count_stddev
        return dp.adaptive_clip_aggregator(
            dp.split_noise(plan.update_noise_multiplier, count_stddev) * plan.scale_factor,
            count_stddev * plan.scale_factor,
            plan.clients_per_round,
            key,
            initial_clip=clip,
            target_quantile=settings.clip_quantile,
            learning_rate=settings.clip_learning_rate,
        )
    stddev = plan.update_noise_multiplier * clip * plan.scale_factor
    if settings.mechanism == "tree":
        noise = dp.tree_noise(stddev, key, settings.restart_rounds)
    elif settings.mechanism == "banded":
        noise = dp.banded_noise(plan.ledger.mechanism.matrix.rows, stddev, key)
    else:
        noise = dp.independent_noise(stddev, key)
    decoded_sum = compressed_sum(plan.settings, lambda update: dp.clip_to_norm(update, clip)[0])
    return dp.fixed_clip_aggregator(clip, plan.clients_per_round, noise, decoded_sum)


def simulated_grid(plan: Plan) -> IntegerGrid:
    """The grid of a run's clients with shares of discrete noise.

    A step is that of the federation that they simulate times the root of how much smaller their sums are: with as much
    noise and rounding in steps as its clients have, their mean has the error of its mean, and wraps around more seldom.
    """
    grid = plan.ledger.mechanism.grid
    return dataclasses.replace(grid, scale=grid.scale / math.sqrt(plan.scale_factor))


def _private_metrics(plan):
    settings = plan.settings.privacy
    if settings.metrics == "exact":
        return None
    if settings.metrics == "withheld":
        return dp.WithheldMetricsFactory()
    return dp.PrivateMetricsFactory(
        {"loss": settings.metrics_loss_bound, **_METRIC_BOUNDS},
        plan.metrics_noise_multiplier * plan.scale_factor,
        plan.clients_per_round,
        dp.noise_key(settings.noise_seed, "metrics"),
    )


def noise_state_bytes(config: RunConfig, trainable_bytes: int) -> int:
    """Maximum number of bytes of the noise's state in a checkpoint."""
    copies = {"tree": math.ceil(math.log2(config.run.rounds)) + 2, "banded": config.privacy.bands or MOST_BANDS}
    return copies.get(config.privacy.mechanism, 0) * trainable_bytes
