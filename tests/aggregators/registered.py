"""Registered aggregators, built from settings."""

from tff_tx.config import AggregationConfig, CohortConfig
from tff_tx.config.registries import AGGREGATORS


def build(name, **settings):
    """The factory of a registered aggregator, with these of its settings and defaults else."""
    return AGGREGATORS[name].build(AggregationConfig(name, **settings), CohortConfig())
