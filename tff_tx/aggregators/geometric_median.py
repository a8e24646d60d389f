"""The geometric median (RFA, Pillutla et al. 2022)."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx.aggregators.aggregator import Aggregator
from tff_tx.aggregators.gathering import MAX_CLIENTS, GatheringFactory, capacity


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


GEOMETRIC_MEDIAN = Aggregator(
    build=lambda settings, cohort: geometric_median_factory(settings.median_iterations, max_clients=capacity(cohort)),
    needs_all_updates=True,
    breakdown=0.5,
)
