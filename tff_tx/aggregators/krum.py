"""Krum and Multi-Krum (Blanchard et al. 2017), and Bulyan, which repeats it (El Mhamdi et al. 2018)."""

from __future__ import annotations

import collections
import math

import tensorflow as tf

from tff_tx.aggregators.gathering import (
    MAX_CLIENTS,
    GatheringFactory,
    assumed_attackers,
    check_share,
    robust_aggregator,
)


def krum_scores(squared_distances: tf.Tensor, num_attackers: tf.Tensor) -> tf.Tensor:
    """The sum of each update's squared distances to the n - f - 2 updates that are closest to it, float64 [n].

    Distances, float64 [n, n], of updates that are not there are infinite.
    """
    there = tf.math.count_nonzero(tf.math.is_finite(tf.linalg.diag_part(squared_distances)), dtype=tf.int32)
    neighbours = tf.minimum(tf.maximum(there - num_attackers - 2, 1), there - 1)
    # The first is the update itself.
    return tf.reduce_sum(tf.sort(squared_distances, axis=1)[:, 1 : 1 + neighbours], 1)


def krum_factory(attacker_share: float = 0.2, multi: bool = False, max_clients: int = MAX_CLIENTS) -> GatheringFactory:
    """The update that is closest to its neighbours (Krum), or the mean of the n - f that are (Multi-Krum).

    Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    https://papers.nips.cc/paper/6617, section 4: s(i) is the sum of |V_i - V_j|^2 over the n - f - 2 updates V_j
    closest to V_i. Krum gives the V_i with the least s(i), Multi-Krum the mean of the m = n - f with the least; of
    equal scores the first in the cohort counts. f = floor(share n), at most (n - 3) / 2, as 2f + 2 < n is assumed.
    Clients count equally. Needs all updates at once, see `GatheringFactory`. Measures `selected`: how many were
    averaged.

    Args:
      attacker_share: At least 0 and less than 0.5.
      multi: Whether it is Multi-Krum.
      max_clients: See `GatheringFactory`.

    Raises:
      ValueError: If the share is out of range.
    """
    check_share(attacker_share, below=0.5)

    def rule(updates):
        n = updates.num_clients
        attackers = assumed_attackers(n, attacker_share, (n - 3) // 2)
        best = tf.argsort(krum_scores(updates.squared_distances(), attackers), stable=True)
        selected = best[: n - attackers] if multi else best[:1]
        return updates.mean_of(selected), collections.OrderedDict(selected=tf.size(selected))

    return GatheringFactory(rule, max_clients)


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


def _record(multi):
    return robust_aggregator(
        lambda settings, held: krum_factory(settings.assumed_attackers, multi, held), least_clients=lambda f: 2 * f + 3
    )


KRUM, MULTI_KRUM = _record(multi=False), _record(multi=True)
BULYAN = robust_aggregator(
    lambda settings, held: bulyan_factory(settings.assumed_attackers, held),
    breakdown=0.25,
    least_clients=lambda f: 4 * f + 3,
)
