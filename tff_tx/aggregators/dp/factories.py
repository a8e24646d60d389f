"""Means of clients' updates under user-level differential privacy: clipping, queries and `tff.aggregators` factories.

All of them add up what clients send, clipped, and divide by a number that is fixed in advance: the number of clients a
round expects. How many there were may itself be private, and with it the mean would change more than the clip when one
client comes or goes. A client that is not there, fails, or sends what is not finite counts as zero; a round without
clients releases noise.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Callable

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_tx.aggregators.dp.noise import IndependentNoise, NoiseFn


def clip_to_norm(record: Any, clip: Any) -> tuple[Any, tf.Tensor]:
    """Scales a record down to a global L2 norm, and one that is not finite down to nothing.

    `tf.clip_by_global_norm`, which tensorflow-privacy's queries use, makes every number of such a record not a number,
    and so the sum over all clients; and with an infinite clip, which must change nothing, those of any record.

    Args:
      record: A structure of float tensors.
      clip: The largest norm, scalar float32, above 0; may be infinite.

    Returns:
      The clipped record and its norm before, scalar float32, which is not finite where the record is not. A record
      whose squares exceed float32 counts as not finite.
    """
    squares = [tf.cast(2.0 * tf.nn.l2_loss(leaf), tf.float32) for leaf in tf.nest.flatten(record)]
    norm = tf.sqrt(tf.add_n(squares))
    scale = tf.where(tf.math.is_finite(norm), tf.minimum(1.0, clip / norm), 0.0)
    # One pass over the record; 0 times infinity is 0 here.
    return tf.nest.map_structure(lambda leaf: tf.math.multiply_no_nan(leaf, tf.cast(scale, leaf.dtype)), record), norm


class FixedClipQuery(tfp.SumAggregationDPQuery):
    """Clips records to an L2 norm and adds noise to their sum.

    What `tfp.GaussianSumQuery` and `tfp.TreeResidualSumQuery` do, with noise that is seeded or otherwise correlated,
    and records that are not finite left out.
    """

    _GlobalState = collections.namedtuple("_GlobalState", ["clip", "noise"])

    def __init__(self, clip: float, noise: Any = None):
        self._clip, self._noise = clip, noise

    def initial_global_state(self):
        noise = () if self._noise is None else self._noise.initialize()
        return self._GlobalState(tf.constant(self._clip, tf.float32), noise)

    def derive_sample_params(self, global_state):
        return global_state.clip

    def preprocess_record(self, params, record):
        return clip_to_norm(record, params)[0]

    def get_noised_result(self, sample_state, global_state):
        # What was spent is accounted from the run's settings, where sampling and participation are known.
        event = dp_accounting.UnsupportedDpEvent()
        if self._noise is None:
            return sample_state, global_state, event
        noise, noise_state = self._noise.next(global_state.noise)
        return tf.nest.map_structure(tf.add, sample_state, noise), global_state._replace(noise=noise_state), event


@dataclasses.dataclass(frozen=True)
class AdaptiveClipQuery(tfp.SumAggregationDPQuery):
    """Clips records to a norm that follows a quantile of their norms, and adds noise to their sum.

    Andrew et al. 2021, https://arxiv.org/abs/1905.03871, Algorithm 1, as `tfp.QuantileAdaptiveClipSumQuery`, with noise
    that is seeded, and records that are not finite left out (they count as above the norm). Attributes are arguments of
    `adaptive_clip_aggregator`; `unit_noise` is standard normal, of the structure (record, scalar).
    """

    _GlobalState = collections.namedtuple("_GlobalState", ["clip", "noise"])
    _Record = collections.namedtuple("_Record", ["value", "below"])

    initial_clip: float
    value_noise_multiplier: float
    target_quantile: float
    learning_rate: float
    count_stddev: float
    expected_records: float
    unit_noise: IndependentNoise

    def initial_global_state(self):
        return self._GlobalState(tf.constant(self.initial_clip, tf.float32), self.unit_noise.initialize())

    def derive_sample_params(self, global_state):
        return global_state.clip

    def initial_sample_state(self, template):
        return self._Record(super().initial_sample_state(template), tf.constant(0.0))

    def preprocess_record(self, params, record):
        value, norm = clip_to_norm(record, params)
        # Shifted by a half, so that a client changes the sum by no more than that.
        return self._Record(value, tf.cast(norm <= params, tf.float32) - 0.5)

    def get_noised_result(self, sample_state, global_state):
        (value_noise, count_noise), noise_state = self.unit_noise.next(global_state.noise)
        stddev = global_state.clip * self.value_noise_multiplier
        value = tf.nest.map_structure(lambda v, z: v + tf.cast(stddev, v.dtype) * z, sample_state.value, value_noise)
        below = (sample_state.below + self.count_stddev * count_noise) / self.expected_records + 0.5
        error = tf.clip_by_value(below, 0.0, 1.0) - self.target_quantile
        clip = global_state.clip * tf.exp(-self.learning_rate * error)
        return value, self._GlobalState(clip, noise_state), dp_accounting.UnsupportedDpEvent()

    def derive_metrics(self, global_state):
        return collections.OrderedDict(clip=global_state.clip)


def split_noise(noise_multiplier: float, count_stddev: float) -> float:
    """The noise multiplier of sums that leaves a share of the budget to counts of clipped records.

    Both releases of a round together are one Gaussian mechanism with `noise_multiplier` z, 0 or more: z_s = (z^-2 - (2
    sigma_b)^-2)^(-1/2), Andrew et al. 2021, Theorem 1, with the standard deviation sigma_b of the noise of the counts,
    which a client changes by a half.

    Raises:
      ValueError: If the counts alone spend more.
    """
    if noise_multiplier == 0:
        return 0.0
    if count_stddev * 2 <= noise_multiplier:
        raise ValueError(
            f"counts with noise of standard deviation {count_stddev:g} spend all that the noise multiplier "
            f"{noise_multiplier:g} allows: it must be more than half of that."
        )
    return (noise_multiplier**-2 - (2 * count_stddev) ** -2) ** -0.5


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
        query = tfp.NormalizedQuery(self._query_fn(tff.types.type_to_tf_tensor_specs(value_type)), self._denominator)
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

    def query(specs):
        return FixedClipQuery(clip, None if noise_fn is None else noise_fn(specs))

    return PrivateMeanFactory(query, clients_per_round, sum_factory)


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
        settings = initial_clip, value_noise_multiplier, target_quantile, learning_rate, count_stddev
        return AdaptiveClipQuery(*settings, clients_per_round, unit_noise)

    return PrivateMeanFactory(query, clients_per_round)
