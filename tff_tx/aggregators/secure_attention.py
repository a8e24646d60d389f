"""Attention over clients by sums alone, and the record of both forms of it."""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import Aggregator, build_process, structure_of
from tff_tx.aggregators.attention import AttentionFactory, scale_layers
from tff_tx.aggregators.secure_sums import SecureSums


class SecureAttentionFactory(tff.aggregators.WeightedAggregationFactory):
    """`AttentionFactory` by sums alone, for secure aggregation.

    The softmax is taken relative to a reference a layer that all clients know, in place of the largest score: that by
    which the cohort's mean of exp(s / tau), by weight, was 1 in the round before. So a client sends n exp(s / tau - r)
    and that times its update; where exp(s / tau - r) exceeds 16, it counts as 16. Otherwise the result is that of
    `AttentionFactory` but for the rounding of the sums. In the first round, and as long as r is far off, the next r is
    the cohort's mean score; the first round is a mean.

    Process: as of `AttentionFactory`, with the reference, float32 [layers], in its state, and the measurements of the
    sum of values as `sum`.

    Args:
      attention: Of which it takes key, temperature, step size and floor.
      sums: Of updates and figures.
    """

    _MOST, _LEAST = 16.0, 1 / 64
    _UNKNOWN = -1e30

    def __init__(self, attention: AttentionFactory, sums: SecureSums):
        self._attention, self._sums = attention, sums

    def create(self, value_type, weight_type):
        attention, layers = self._attention, len(tf.nest.flatten(structure_of(value_type)))

        @tff.tensorflow.computation(value_type, weight_type, tff.TensorType(np.float32, [layers]))
        def contribute(value, weight, reference):
            client = attention.scored(value, weight)
            weight = client["weight"]
            relative = weight * tf.minimum(tf.exp(client["score"] - reference), self._MOST)
            updates = [scale_layers(client["value"], relative)]
            if attention.floor:
                updates.append(scale_layers(client["value"], tf.fill(tf.shape(relative), weight)))
            figures = collections.OrderedDict(
                clients=tf.cast(weight > 0.0, tf.int32),
                weight=weight,
                attention=relative,
                squares=relative**2,
                scores=weight * client["score"],
            )
            return updates, figures

        updates_type, figures_type = contribute.type_signature.result
        values, figures = self._sums.values.create(updates_type), self._sums.figures.create(figures_type)

        @tff.tensorflow.computation(updates_type, figures_type, tff.TensorType(np.float32, [layers]))
        def report(updates, figures, reference):
            shares = (1.0 - attention.floor) * tf.math.divide_no_nan(attention.step_size, figures["attention"])
            result = scale_layers(updates[0], shares)
            if attention.floor:
                share = tf.math.divide_no_nan(attention.step_size * attention.floor, figures["weight"])
                result = tf.nest.map_structure(tf.add, result, scale_layers(updates[1], tf.fill([layers], share)))
            mean = tf.math.divide_no_nan(figures["attention"], figures["weight"])
            near = (mean > self._LEAST) & (mean < self._MOST) & (reference > self._UNKNOWN)
            score = tf.math.divide_no_nan(figures["scores"], figures["weight"])
            moved = tf.where(near, reference + tf.math.log(tf.maximum(mean, self._LEAST)), score)
            moved = tf.where(figures["weight"] > 0.0, moved, reference)
            effective = tf.math.divide_no_nan(figures["attention"] ** 2, figures["squares"])
            measured = collections.OrderedDict(clients=figures["clients"], effective_clients=tf.reduce_mean(effective))
            return result, moved, measured

        @tff.federated_computation
        def initialize():
            reference = tff.federated_value(np.full([layers], self._UNKNOWN, np.float32), tff.SERVER)
            return tff.federated_zip((reference, values.initialize()))

        def next_fn(state, value, weight):
            sent = tff.federated_map(contribute, (value, weight, tff.federated_broadcast(state[0])))
            summed = values.next(state[1], sent[0])
            known = figures.next(tff.federated_value((), tff.SERVER), sent[1])
            reported = tff.federated_map(report, (summed.result, known.result, state[0]))
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip((reported[1], summed.state)),
                reported[0],
                tff.federated_zip(collections.OrderedDict(attention=reported[2], sum=summed.measurements)),
            )

        return build_process(initialize, next_fn, value_type, weight_type)


def _of(settings):
    return AttentionFactory(
        settings.attention_key, settings.attention_temperature, settings.attention_step_size, settings.attention_floor
    )


ATTENTION = Aggregator(
    build=lambda settings, cohort: _of(settings),
    build_secure=lambda settings, sums, weighted: SecureAttentionFactory(_of(settings), sums),
)
