"""FedExP (Jhunjhunwala et al. 2023)."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import build_process
from tff_tx.algorithms import capabilities
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


class _Extrapolated(tff.aggregators.WeightedAggregationFactory):
    """Multiplies what another factory gives by FedExP's step size.

    Args:
      inner: Aggregates the updates.
      sums: Unweighted factory that adds up squared norms and weights; None: `tff.federated_sum`.
      epsilon: Added to the squared norm of the aggregate.
    """

    def __init__(self, inner: tff.aggregators.WeightedAggregationFactory, sums, epsilon: float):
        self._inner, self._sums, self._epsilon = inner, sums or tff.aggregators.SumFactory(), epsilon

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        inner = self._inner.create(value_type, weight_type)
        sums = self._sums.create(tff.to_type(collections.OrderedDict(norms=np.float32, weights=np.float32)))

        @tff.tensorflow.computation(value_type, weight_type)
        def weigh(update, weight):
            weight = weight["weight"] if isinstance(weight, Mapping) else weight
            weight = tf.cast(weight, tf.float32)
            return collections.OrderedDict(norms=weight * _squared_norm(update), weights=weight)

        @tff.tensorflow.computation(*(p.next.type_signature.result.result.member for p in (inner, sums)))
        def extrapolate(mean, sums):
            mean_norm = tf.math.divide_no_nan(sums["norms"], sums["weights"])
            step = tf.maximum(1.0, tf.math.divide_no_nan(mean_norm, 2 * (_squared_norm(mean) + self._epsilon)))
            return tf.nest.map_structure(lambda leaf: tf.cast(step, leaf.dtype) * leaf, mean), step

        @tff.federated_computation
        def initialize():
            return tff.federated_zip((inner.initialize(), sums.initialize()))

        def next_fn(state, value, weight):
            output = inner.next(state[0], value, weight)
            total = sums.next(state[1], tff.federated_map(weigh, (value, weight)))
            result, step = tff.federated_map(extrapolate, (output.result, total.result))
            measurements = collections.OrderedDict(step_size=step, inner=output.measurements)
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip((output.state, total.state)), result, tff.federated_zip(measurements)
            )

        return build_process(initialize, next_fn, value_type, weight_type)


def _squared_norm(update):
    return tf.add_n([tf.reduce_sum(tf.square(tf.cast(leaf, tf.float32))) for leaf in tf.nest.flatten(update)])


def build_fed_exp(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedExP: FedAvg whose server goes further along the mean update, the more clients' updates differ.

    https://arxiv.org/abs/2301.09604, Algorithm 1: with d = sum_k p_k u_k,
    eta_g = max(1, sum_k p_k |u_k|^2 / (2 (|d|^2 + epsilon))); w_{t+1} = w_t - eta_g d. p_k are clients' weights, 1/M in
    the paper; epsilon is `options.extrapolation_epsilon`. `aggregator/step_size` is eta_g. Besides the mean the server
    needs the sum of squared norms, a number per client. The paper's average of the last two models is not taken.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_EXP, options, model)
    factory = _Extrapolated(options.weighted_aggregator, options.figures_sum, options.extrapolation_epsilon)
    return build_fed_avg(model, dataclasses.replace(options, aggregator=factory))


FED_EXP = Algorithm(
    name="fed_exp",
    title="FedExP",
    paper="https://arxiv.org/abs/2301.09604",
    build=build_fed_exp,
    capabilities=capabilities.ALL - {capabilities.CENTRAL_DP, capabilities.LORA_PRODUCTS},
)
