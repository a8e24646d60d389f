"""Coordinate-wise median and trimmed mean (Yin et al. 2018)."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx.aggregators.aggregator import Aggregator
from tff_tx.aggregators.gathering import MAX_CLIENTS, GatheringFactory, assumed_attackers, capacity, check_share


def median_factory(max_clients: int = MAX_CLIENTS) -> GatheringFactory:
    """The median of each coordinate; of an even number of clients the mean of the two in the middle.

    Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    https://arxiv.org/abs/1803.01498, Definition 1. Clients count equally, as an attacker can claim any weight. Needs
    all updates at once, see `GatheringFactory`.

    Args:
      max_clients: See `GatheringFactory`.
    """

    def rule(updates):
        n = updates.num_clients

        def median(chunk):
            ordered = tf.sort(chunk, axis=0)
            return 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])

        return updates.map_columns(median), collections.OrderedDict()

    return GatheringFactory(rule, max_clients)


def trimmed_mean_factory(attacker_share: float = 0.2, max_clients: int = MAX_CLIENTS) -> GatheringFactory:
    """The mean of each coordinate without the floor(beta n) smallest and as many largest values.

    Yin et al. 2018, https://arxiv.org/abs/1803.01498, Definition 2. Clients count equally. Needs all updates at once,
    see `GatheringFactory`. Measures `trimmed`: how many values at each end.

    Args:
      attacker_share: beta, at least 0 (the mean) and less than 0.5.
      max_clients: See `GatheringFactory`.

    Raises:
      ValueError: If the share is out of range.
    """
    check_share(attacker_share, below=0.5)

    def rule(updates):
        n = updates.num_clients
        trimmed = assumed_attackers(n, attacker_share, (n - 1) // 2)

        def trimmed_mean(chunk):
            return tf.reduce_mean(tf.sort(chunk, axis=0)[trimmed : n - trimmed], 0)

        return updates.map_columns(trimmed_mean), collections.OrderedDict(trimmed=trimmed)

    return GatheringFactory(rule, max_clients)


MEDIAN = Aggregator(
    build=lambda settings, cohort: median_factory(capacity(cohort)), needs_all_updates=True, breakdown=0.5
)
TRIMMED_MEAN = Aggregator(
    build=lambda settings, cohort: trimmed_mean_factory(settings.assumed_attackers, capacity(cohort)),
    needs_all_updates=True,
    breakdown=0.5,
    least_clients=lambda f: 2 * f + 1,
)
