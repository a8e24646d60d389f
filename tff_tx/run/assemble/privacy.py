"""Client-level differential privacy from a plan: the aggregators that clip and add its noise."""

from __future__ import annotations

import math
from typing import Any

from tff_tx.aggregators import dp
from tff_tx.config import RunConfig
from tff_tx.config.privacy import MOST_BANDS
from tff_tx.privacy import Plan
from tff_tx.run.assemble.aggregation import compressed_sum

_METRIC_BOUNDS = {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def private_parts(plan: Plan) -> dict[str, Any]:
    """The fields of `algorithms.Options` that privacy decides, over those of `build_aggregation`.

    Noise is seeded here: with privacy.noise_seed, else with the operating system's randomness.

    Args:
      plan: Of the run.

    Returns:
      `weighted`, False; `aggregator`; and `metrics_aggregator`, None for exact metrics.
    """
    return {"weighted": False, "aggregator": _aggregator(plan), "metrics_aggregator": _metrics_aggregator(plan)}


def _aggregator(plan):
    settings = plan.settings.privacy
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


def _metrics_aggregator(plan):
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
    """Maximum number of bytes of the noise's state in a checkpoint.

    Args:
      config: The run.
      trainable_bytes: Size of the trainable weights.
    """
    copies = {"tree": math.ceil(math.log2(config.run.rounds)) + 2, "banded": config.privacy.bands or MOST_BANDS}
    return copies.get(config.privacy.mechanism, 0) * trainable_bytes
