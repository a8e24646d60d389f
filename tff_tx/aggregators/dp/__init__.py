"""User-level central differential privacy: clipping, noise, and the aggregators and optimizers made of them."""

from tff_tx.aggregators.dp.discrete import discrete_aggregator
from tff_tx.aggregators.dp.factories import (
    AdaptiveClipQuery,
    adaptive_clip_aggregator,
    clip_to_norm,
    fixed_clip_aggregator,
    split_noise,
)
from tff_tx.aggregators.dp.metrics import PrivateMetricsFactory, WithheldMetricsFactory
from tff_tx.aggregators.dp.noise import NoisedOptimizer, banded_noise, independent_noise, noise_key, tree_noise
