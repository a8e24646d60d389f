"""Centred clipping (Karimireddy et al. 2021)."""

from __future__ import annotations

import collections
import math

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import Aggregator, all_finite, build_process, structure_of, zeros_of
from tff_tx.aggregators.secure_sums import secure_mean


def centered_clipping_factory(
    radius: float,
    inner: tff.aggregators.AggregationFactory | None = None,
    counts: tff.aggregators.UnweightedAggregationFactory | None = None,
) -> tff.aggregators.AggregationFactory:
    """Clips updates to a ball around the aggregate of the round before, and averages what is left.

    Karimireddy, He and Jaggi 2021, "Learning from History for Byzantine Robust Optimization",
    https://arxiv.org/abs/2012.10333, section 4: v_t = v_{t-1} + 1/n sum_i (x_i - v_{t-1}) min(1, tau / |x_i -
    v_{t-1}|), with one iteration a round, as in its Algorithm 2. v_0 is 0. One client moves the result by at most tau
    times its share. The sum is left to an inner factory, so that sums that are secure or noised will do. The center v
    is broadcast besides the model. Where the inner mean is not finite v stays.

    Process: weighted or not as the inner is; state `OrderedDict(center=V, inner)`; measurements `OrderedDict(inner,
    clipped_count)`.

    Args:
      radius: tau, above 0, an L2 norm.
      inner: Averages the clipped differences; default: `tff.aggregators.MeanFactory`, which is weighted.
      counts: Sums what clients count; default: `tff.aggregators.SumFactory`.

    Raises:
      ValueError: If the radius is out of range.
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"radius={radius}: must be above 0 and finite.")
    if inner is None:
        inner = tff.aggregators.MeanFactory(no_nan_division=True)
    weighted = isinstance(inner, tff.aggregators.WeightedAggregationFactory)
    return (_Weighted if weighted else _Unweighted)(radius, inner, counts or tff.aggregators.SumFactory())


class _CenteredClipping:
    def __init__(self, radius, inner, counts):
        self._radius, self._inner, self._counts = radius, inner, counts

    def create(self, value_type, *weight_type):
        inner = self._inner.create(value_type, *weight_type)
        specs = structure_of(value_type)
        count = self._counts.create(tff.TensorType(tf.int32.as_numpy_dtype))

        @tff.tensorflow.computation
        def zero():
            return zeros_of(specs)

        @tff.tensorflow.computation(value_type, value_type)
        def clip(value, center):
            difference = tf.nest.map_structure(tf.subtract, value, center)
            norm = tf.linalg.global_norm([tf.cast(leaf, tf.float32) for leaf in tf.nest.flatten(difference)])
            # What is not finite has no direction: it counts as the center.
            finite = tf.math.is_finite(norm)
            scale = tf.math.divide_no_nan(self._radius, tf.maximum(norm, self._radius))
            clipped = tf.nest.map_structure(
                lambda leaf: tf.where(finite, leaf * tf.cast(scale, leaf.dtype), tf.zeros_like(leaf)), difference
            )
            return clipped, tf.cast(~finite | (norm > self._radius), tf.int32)

        @tff.tensorflow.computation(value_type, value_type)
        def move(center, mean):
            finite = all_finite(mean)
            return tf.nest.map_structure(lambda v, m: tf.where(finite, v + m, v), center, mean)

        @tff.federated_computation
        def initialize():
            center = tff.federated_eval(zero, tff.SERVER)
            return tff.federated_zip(collections.OrderedDict(center=center, inner=inner.initialize()))

        def next_fn(state, value, *weight):
            center = tff.federated_broadcast(state["center"])
            clipped, was_clipped = tff.federated_map(clip, (value, center))
            output = inner.next(state["inner"], clipped, *weight)
            result = tff.federated_map(move, (state["center"], output.result))
            counted = count.next(tff.federated_value((), tff.SERVER), was_clipped)
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip(collections.OrderedDict(center=result, inner=output.state)),
                result,
                tff.federated_zip(collections.OrderedDict(inner=output.measurements, clipped_count=counted.result)),
            )

        return build_process(initialize, next_fn, value_type, *weight_type)


class _Weighted(_CenteredClipping, tff.aggregators.WeightedAggregationFactory):
    pass


class _Unweighted(_CenteredClipping, tff.aggregators.UnweightedAggregationFactory):
    pass


CENTERED_CLIPPING = Aggregator(
    build=lambda settings, cohort: centered_clipping_factory(settings.centered_clip_norm),
    build_secure=lambda settings, sums, weighted: centered_clipping_factory(
        settings.centered_clip_norm, secure_mean(sums, weighted), sums.figures
    ),
    breakdown=0.5,
)
