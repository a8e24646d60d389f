"""Metrics of training that keep the guarantee: released with noise, or not at all."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import build_process, stateless
from tff_tx.aggregators.dp.factories import fixed_clip_aggregator
from tff_tx.aggregators.dp.noise import independent_noise


class PrivateMetricsFactory(tff.aggregators.UnweightedAggregationFactory):
    """The mean over clients of each client's own figures, with Gaussian noise.

    A figure is cut to [0, its bound], and what is added up is its distance from the middle in units of the bound: a
    client changes the sum by at most `sensitivity`, whatever its figures are, and counts as the middle if it does not
    report. Figures without a bound, such as numbers of examples, are not released.

    Args:
      bounds: The largest value by figure, above 0.
      noise_multiplier: Standard deviation of the sum's noise in units of `sensitivity`, 0 or more.
      clients_per_round: Clients that a round expects: the denominator.
      key: See `noise_key`.
    """

    def __init__(self, bounds: Mapping[str, float], noise_multiplier: float, clients_per_round: float, key: np.ndarray):
        self._bounds, self._noise_multiplier = dict(bounds), noise_multiplier
        self._clients_per_round, self._key = clients_per_round, key

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        names = [name for name, _ in tff.structure.iter_elements(value_type) if name in self._bounds]
        bounds = tf.constant([self._bounds[name] for name in names], tf.float32).numpy()
        sensitivity = 0.5 * math.sqrt(len(names))
        noise = independent_noise(self._noise_multiplier * sensitivity, self._key)
        # The vectors are not longer than that anyway; their rounding may be.
        record_type = tff.TensorType(np.float32, [len(names)])
        mean = fixed_clip_aggregator(sensitivity, self._clients_per_round, noise).create(record_type)

        @tff.tensorflow.computation(value_type)
        def record(figures):
            values = tf.stack([tf.cast(figures[name], tf.float32) for name in names])
            middle = bounds / 2
            values = tf.where(tf.math.is_nan(values), middle, tf.clip_by_value(values, 0.0, bounds))
            return (values - middle) / bounds

        @tff.tensorflow.computation(record_type)
        def figures(distances):
            return collections.OrderedDict(zip(names, tf.unstack((distances + 0.5) * bounds)))

        def next_fn(state, value):
            output = mean.next(state, tff.federated_map(record, value))
            return tff.templates.MeasuredProcessOutput(
                output.state, tff.federated_map(figures, output.result), tff.federated_value((), tff.SERVER)
            )

        return build_process(mean.initialize, next_fn, value_type)


class WithheldMetricsFactory(tff.aggregators.UnweightedAggregationFactory):
    """No metrics: what clients measure stays with them."""

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        def next_fn(state, value):
            del value
            nothing = tff.federated_value((), tff.SERVER)
            return tff.templates.MeasuredProcessOutput(state, nothing, nothing)

        return build_process(stateless(), next_fn, value_type)
