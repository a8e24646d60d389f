"""Bulyan (El Mhamdi et al. 2018)."""

from __future__ import annotations

import collections
import math

import tensorflow as tf

from tff_tx.aggregators.aggregator import Aggregator
from tff_tx.aggregators.gathering import MAX_CLIENTS, GatheringFactory, assumed_attackers, capacity, check_share
from tff_tx.aggregators.krum import krum_scores


def bulyan_factory(attacker_share: float = 0.2, max_clients: int = MAX_CLIENTS) -> GatheringFactory:
    """Krum chooses updates one after another; of these, the mean of each coordinate's values next to the median.

    El Mhamdi et al. 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium",
    https://arxiv.org/abs/1802.07927, section 4: theta = n - 2f updates are chosen, each by Krum among those not chosen
    yet; of each coordinate the beta = theta - 2f values closest to the median of the theta are averaged. f =
    floor(share n), at most (n - 3) / 4, as n >= 4f + 3 is assumed. Clients count equally. Needs all updates at once,
    see `GatheringFactory`. Measures `selected`: theta.

    Args:
      attacker_share: At least 0 and less than 0.25.
      max_clients: See `GatheringFactory`.

    Raises:
      ValueError: If the share is out of range.
    """
    check_share(attacker_share, below=0.25)

    def rule(updates):
        n = updates.num_clients
        attackers = assumed_attackers(n, attacker_share, (n - 3) // 4)
        chosen = _choose(updates.squared_distances(), n - 2 * attackers, attackers)
        averaged = n - 4 * attackers

        def mean_near_median(chunk):
            values = tf.transpose(tf.sort(tf.gather(chunk, chosen), axis=0))
            theta = tf.size(chosen)
            median = 0.5 * (values[:, (theta - 1) // 2] + values[:, theta // 2])
            nearest = tf.argsort(tf.abs(values - median[:, None]), axis=1, stable=True)[:, :averaged]
            return tf.reduce_mean(tf.gather(values, nearest, axis=1, batch_dims=1), 1)

        return updates.map_columns(mean_near_median), collections.OrderedDict(selected=tf.size(chosen))

    return GatheringFactory(rule, max_clients)


def _choose(squared_distances, how_many, attackers):
    """The indices of updates that Krum chooses one after another, int32 [how_many]."""
    away = tf.constant(math.inf, tf.float64)

    def choose(i, distances, chosen):
        scores = krum_scores(distances, attackers)
        there = tf.math.is_finite(tf.linalg.diag_part(distances))
        best = tf.argmin(tf.where(there, scores, away), output_type=tf.int32)
        gone = tf.equal(tf.range(tf.shape(distances)[0]), best)
        distances = tf.where(gone[:, None] | gone[None, :], away, distances)
        return i + 1, distances, chosen.write(i, best)

    chosen = tf.TensorArray(tf.int32, how_many, element_shape=[])
    _, _, chosen = tf.while_loop(lambda i, *_: i < how_many, choose, (0, squared_distances, chosen))
    return chosen.stack()


BULYAN = Aggregator(
    build=lambda settings, cohort: bulyan_factory(settings.assumed_attackers, capacity(cohort)),
    needs_all_updates=True,
    breakdown=0.25,
    least_clients=lambda f: 4 * f + 3,
)
