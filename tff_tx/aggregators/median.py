"""Medians: coordinate-wise median and trimmed mean (Yin et al. 2018), geometric median (RFA, Pillutla et al. 2022)."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx.aggregators.gathering import (
    MAX_CLIENTS,
    GatheringFactory,
    assumed_attackers,
    check_share,
    robust_aggregator,
)


def median_factory(max_clients: int = MAX_CLIENTS) -> GatheringFactory:
    """The median of each coordinate; of an even number of clients the mean of the two in the middle.

    Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    https://arxiv.org/abs/1803.01498, Definition 1. Clients count equally, as an attacker can claim any weight. Needs
    all updates at once, see `GatheringFactory`.
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


def geometric_median_factory(
    iterations: int = 32, smoothing: float = 1e-6, max_clients: int = MAX_CLIENTS
) -> GatheringFactory:
    """The point v with the least sum of weighted distances to the updates, by the smoothed Weiszfeld algorithm.

    Pillutla et al. 2022, "Robust Aggregation for Federated Learning", https://arxiv.org/abs/1912.13445, Algorithm 2:
    from the weighted mean, beta_k = alpha_k / max(nu, |v - w_k|), v = sum_k beta_k w_k / sum_k beta_k, with alpha_k
    the client's share of the weight. There an iteration is a round of secure sums, and 3 are done. Here v is a
    combination of the updates whose distances come from their inner products, so that an iteration costs n^2
    operations and no pass over the updates; instead all updates are needed at once, see `GatheringFactory`. Attackers
    can claim any weight, so count clients equally. Measures `largest_share`: the largest normalized beta_k.

    Args:
      iterations: At least 1.
      smoothing: nu, above 0, in units of the distance between updates.
      max_clients: See `GatheringFactory`.

    Raises:
      ValueError: If an argument is out of its range.
    """
    if iterations < 1 or smoothing <= 0:
        raise ValueError(f"iterations={iterations}, smoothing={smoothing}: must be at least 1, and above 0.")

    def rule(updates):
        products = updates.inner_products()
        squares = tf.linalg.diag_part(products)
        alpha = tf.cast(updates.weights, tf.float64)
        alpha /= tf.reduce_sum(alpha)

        def step(i, shares):
            onto = tf.linalg.matvec(products, shares)
            squared = squares - 2.0 * onto + tf.tensordot(shares, onto, 1)
            beta = alpha / tf.maximum(tf.cast(smoothing, tf.float64), tf.sqrt(tf.maximum(squared, 0.0)))
            return i + 1, beta / tf.reduce_sum(beta)

        _, shares = tf.while_loop(lambda i, _: i < iterations, step, (0, alpha))
        shares = tf.cast(shares, tf.float32)
        median = updates.map_columns(lambda chunk: tf.linalg.matvec(chunk, shares, transpose_a=True))
        return median, collections.OrderedDict(largest_share=tf.reduce_max(shares))

    return GatheringFactory(rule, max_clients)


MEDIAN = robust_aggregator(lambda settings, held: median_factory(held))
TRIMMED_MEAN = robust_aggregator(
    lambda settings, held: trimmed_mean_factory(settings.assumed_attackers, held), least_clients=lambda f: 2 * f + 1
)
GEOMETRIC_MEDIAN = robust_aggregator(
    lambda settings, held: geometric_median_factory(settings.median_iterations, max_clients=held)
)
