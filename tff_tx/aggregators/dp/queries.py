"""Sums of clipped records with noise, as tensorflow-privacy's queries."""

from __future__ import annotations

import collections
from typing import Any

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

from tff_tx.aggregators.dp.clipping import clip_to_norm
from tff_tx.aggregators.dp.noise import IndependentNoise


class FixedClipQuery(tfp.SumAggregationDPQuery):
    """Clips records to an L2 norm and adds noise to their sum.

    What `tfp.GaussianSumQuery` and `tfp.TreeResidualSumQuery` do, with noise that is seeded or otherwise correlated,
    and records that are not finite left out.

    Args:
      clip: The norm, above 0; may be infinite.
      noise: What is added, of the records' structure; None: nothing.
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


class AdaptiveClipQuery(tfp.SumAggregationDPQuery):
    """Clips records to a norm that follows a quantile of their norms, and adds noise to their sum.

    Andrew et al. 2021, https://arxiv.org/abs/1905.03871, Algorithm 1, as `tfp.QuantileAdaptiveClipSumQuery`, with noise
    that is seeded, and records that are not finite left out (they count as above the norm).

    Args:
      initial_clip: The norm of the first round, above 0.
      value_noise_multiplier: Standard deviation of the noise of a sum, in units of the norm.
      target_quantile: The share of records that should not be clipped, in [0, 1].
      learning_rate: The logarithm of the norm changes by at most this a round.
      count_stddev: Standard deviation of the noise of the number of records below the norm.
      expected_records: By which that number is divided.
      unit_noise: Standard normal noise of the structure (record, scalar).
    """

    _GlobalState = collections.namedtuple("_GlobalState", ["clip", "noise"])
    _Record = collections.namedtuple("_Record", ["value", "below"])

    def __init__(
        self,
        initial_clip: float,
        value_noise_multiplier: float,
        target_quantile: float,
        learning_rate: float,
        count_stddev: float,
        expected_records: float,
        unit_noise: IndependentNoise,
    ):
        self._initial_clip, self._value_noise_multiplier = initial_clip, value_noise_multiplier
        self._target_quantile, self._learning_rate = target_quantile, learning_rate
        self._count_stddev, self._expected_records = count_stddev, expected_records
        self._noise = unit_noise

    def initial_global_state(self):
        return self._GlobalState(tf.constant(self._initial_clip, tf.float32), self._noise.initialize())

    def derive_sample_params(self, global_state):
        return global_state.clip

    def initial_sample_state(self, template):
        return self._Record(super().initial_sample_state(template), tf.constant(0.0))

    def preprocess_record(self, params, record):
        value, norm = clip_to_norm(record, params)
        # Shifted by a half, so that a client changes the sum by no more than that.
        return self._Record(value, tf.cast(norm <= params, tf.float32) - 0.5)

    def get_noised_result(self, sample_state, global_state):
        (value_noise, count_noise), noise_state = self._noise.next(global_state.noise)
        stddev = global_state.clip * self._value_noise_multiplier
        value = tf.nest.map_structure(lambda v, z: v + tf.cast(stddev, v.dtype) * z, sample_state.value, value_noise)
        below = (sample_state.below + self._count_stddev * count_noise) / self._expected_records + 0.5
        error = tf.clip_by_value(below, 0.0, 1.0) - self._target_quantile
        clip = global_state.clip * tf.exp(-self._learning_rate * error)
        return value, self._GlobalState(clip, noise_state), dp_accounting.UnsupportedDpEvent()

    def derive_metrics(self, global_state):
        return collections.OrderedDict(clip=global_state.clip)


def split_noise(noise_multiplier: float, count_stddev: float) -> float:
    """The noise multiplier of sums that leaves a share of the budget to counts of clipped records.

    Both releases of a round together are one Gaussian mechanism with `noise_multiplier`: z_s = (z^-2 - (2
    sigma_b)^-2)^(-1/2), Andrew et al. 2021, Theorem 1.

    Args:
      noise_multiplier: z, 0 or more.
      count_stddev: sigma_b, the standard deviation of the noise of the counts, which a client changes by a half.

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
