"""User-level central differential privacy: clipping, noise, and the aggregators and optimizers made of them."""

from tff_tx.aggregators.dp.clipping import clip_to_norm
from tff_tx.aggregators.dp.discrete import SkellamParameters, discrete_aggregator, rotated_size
from tff_tx.aggregators.dp.factories import (
    PrivateMeanFactory,
    adaptive_clip_aggregator,
    fixed_clip_aggregator,
)
from tff_tx.aggregators.dp.metrics import PrivateMetricsFactory, WithheldMetricsFactory
from tff_tx.aggregators.dp.noise import banded_noise, independent_noise, noise_key, tree_noise
from tff_tx.aggregators.dp.optimizer import NoisedOptimizer
from tff_tx.aggregators.dp.queries import AdaptiveClipQuery, FixedClipQuery, split_noise

__all__ = [
    "AdaptiveClipQuery",
    "FixedClipQuery",
    "NoisedOptimizer",
    "PrivateMeanFactory",
    "PrivateMetricsFactory",
    "SkellamParameters",
    "WithheldMetricsFactory",
    "adaptive_clip_aggregator",
    "banded_noise",
    "clip_to_norm",
    "discrete_aggregator",
    "fixed_clip_aggregator",
    "independent_noise",
    "noise_key",
    "rotated_size",
    "split_noise",
    "tree_noise",
]
