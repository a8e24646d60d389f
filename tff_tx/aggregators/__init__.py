"""Aggregators: `tff.aggregators` factories that wrap one another; more of differential privacy are in `dp`."""

from tff_tx.aggregators.aggregator import Aggregator
from tff_tx.aggregators.attention import AttentionFactory
from tff_tx.aggregators.centered_clipping import centered_clipping_factory
from tff_tx.aggregators.dp import discrete_aggregator
from tff_tx.aggregators.gathering import GatheringFactory
from tff_tx.aggregators.krum import bulyan_factory, krum_factory
from tff_tx.aggregators.median import geometric_median_factory, median_factory, trimmed_mean_factory
from tff_tx.aggregators.secure_attention import SecureAttentionFactory
from tff_tx.aggregators.secure_sums import FigureSumFactory, GridSumFactory, SecureSums, secure_mean
from tff_tx.aggregators.stacks import clipping, mean_factory, stack, zeroing
