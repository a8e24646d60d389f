"""User-level central differential privacy: clipping, noise, and the aggregators and optimizers made of them."""

from tff_tx.aggregators.dp.clipping import clip_to_norm
from tff_tx.aggregators.dp.discrete import SkellamParameters, discrete_aggregator, rotated_size
from tff_tx.aggregators.dp.factories import adaptive_clip_aggregator, fixed_clip_aggregator
from tff_tx.aggregators.dp.metrics import PrivateMetricsFactory, WithheldMetricsFactory
from tff_tx.aggregators.dp.noise import banded_noise, independent_noise, noise_key, tree_noise
from tff_tx.aggregators.dp.optimizer import NoisedOptimizer
from tff_tx.aggregators.dp.queries import AdaptiveClipQuery, split_noise
