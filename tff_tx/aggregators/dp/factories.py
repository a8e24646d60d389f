"""Means of clients' updates under user-level differential privacy, as `tff.aggregators` factories.

All of them add up what clients send, clipped, and divide by a number that is fixed in advance: the number of clients a
round expects. How many there were may itself be private, and with it the mean would change more than the clip when one
client comes or goes. A client that is not there, fails, or sends what is not finite counts as zero; a round without
clients releases noise.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_tx.aggregators.dp.noise import IndependentNoise, NoiseFn
from tff_tx.aggregators.dp.queries import AdaptiveClipQuery, FixedClipQuery


class PrivateMeanFactory(tff.aggregators.UnweightedAggregationFactory):
    """A noised sum over a fixed denominator: TFF's `DifferentiallyPrivateFactory` for a query made to measure.

    Args:
      query_fn: From the structure of `tf.TensorSpec` of a record to the query that clips and adds noise.
      denominator: By which its result is divided, above 0.
      sum_factory: Sums the query's preprocessed records; None: the plain sum.
    """

    def __init__(
        self,
        query_fn: Callable[[Any], tfp.SumAggregationDPQuery],
        denominator: float,
        sum_factory: tff.aggregators.UnweightedAggregationFactory | None = None,
    ):
        self._query_fn, self._denominator, self._sum_factory = query_fn, float(denominator), sum_factory

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        query = self._query_fn(tff.types.type_to_tf_tensor_specs(value_type))
        query = tfp.NormalizedQuery(query, self._denominator)
        return tff.aggregators.DifferentiallyPrivateFactory(query, self._sum_factory).create(value_type)


def fixed_clip_aggregator(
    clip: float,
    clients_per_round: float,
    noise_fn: NoiseFn | None = None,
    sum_factory: tff.aggregators.UnweightedAggregationFactory | None = None,
) -> tff.aggregators.UnweightedAggregationFactory:
    """The mean of updates clipped to a fixed norm, with noise.

    With `independent_noise` this is DP-FedAvg's (McMahan et al. 2018, https://arxiv.org/abs/1710.06963); with SGD on
    the server, `tree_noise` makes it DP-FTRL (Kairouz et al. 2021, https://arxiv.org/abs/2103.00039) and `banded_noise`
    BandMF (Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153).

    Args:
      clip: The L2 norm, above 0; infinite without noise.
      clients_per_round: The denominator, above 0.
      noise_fn: The noise of the sum, before the division; None: none, or it is added by a `NoisedOptimizer`.
      sum_factory: Sums the clipped updates, and must let none of them change the sum by more than the clip; None: the
        plain sum.
    """
    return PrivateMeanFactory(
        lambda specs: FixedClipQuery(clip, None if noise_fn is None else noise_fn(specs)),
        clients_per_round,
        sum_factory,
    )


def adaptive_clip_aggregator(
    value_noise_multiplier: float,
    count_stddev: float,
    clients_per_round: float,
    key: np.ndarray,
    *,
    initial_clip: float = 0.1,
    target_quantile: float = 0.5,
    learning_rate: float = 0.2,
) -> tff.aggregators.UnweightedAggregationFactory:
    """The mean of updates clipped to a norm that follows a quantile of their norms, with Gaussian noise.

    `tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive` with seeded noise; see `AdaptiveClipQuery`.

    Args:
      value_noise_multiplier: Of the sum: its noise has this many norms as standard deviation; see `split_noise`.
      count_stddev: Standard deviation of the noise of the number of clients below the norm.
      clients_per_round: The denominator of sum and count, above 0.
      key: See `noise_key`.
      initial_clip: The norm of the first round.
      target_quantile: The share of clients that should not be clipped.
      learning_rate: The logarithm of the norm changes by at most this a round.
    """

    def query(specs):
        unit_noise = IndependentNoise(1.0, (specs, tf.TensorSpec([], tf.float32)), key)
        return AdaptiveClipQuery(
            initial_clip,
            value_noise_multiplier,
            target_quantile,
            learning_rate,
            count_stddev,
            clients_per_round,
            unit_noise,
        )

    return PrivateMeanFactory(query, clients_per_round)
