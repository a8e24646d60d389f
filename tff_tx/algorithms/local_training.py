"""Local training with what TFF's builders lack: the proximal term, and a rate that follows the round.

TFF 0.87 has a builder with a schedule, for weighted FedAvg alone and not for functional models. Its
FedProx adds mu (w_t - w) to the gradient, the proximal term with the wrong sign, which drives
clients away from the server's model. This is TFF's client work for functional models with the term
of the paper, a schedule and either weighting; without the first two it computes what TFF's does.
"""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.options import Options

_templates = tff.learning.templates


def build_local_training_process(
    model: tff.learning.models.FunctionalModel, options: Options
) -> _templates.LearningProcess:
    """Builds FedAvg's process with the rate of `options.client_schedule`, if there is one.

    `options.proximal_strength` adds the proximal term. The metrics also hold the round's rate, as
    `client_work/learning_rate`.
    """

    @tff.tensorflow.computation
    def initial_weights():
        return tff.learning.models.ModelWeights(*model.initial_weights)

    weights_type = initial_weights.type_signature.result
    aggregator = options.weighted_aggregator.create(weights_type.trainable, tff.TensorType(np.float32))
    return _templates.compose_learning_process(
        initial_weights,
        _templates.build_broadcast_process(weights_type),
        _build_client_work(model, weights_type, options),
        aggregator,
        _templates.build_apply_optimizer_finalizer(options.server_optimizer, weights_type),
    )


def _build_client_work(model, weights_type, options):
    data_type = tff.SequenceType(tff.types.tensorflow_to_type(model.input_spec))

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.tensorflow.computation(np.int32)
    def learning_rate(round_num):
        if options.client_schedule is None:
            return tf.constant(options.client_learning_rate, tf.float32)
        return tf.cast(options.client_schedule(round_num), tf.float32)

    @tff.tensorflow.computation(weights_type, data_type, np.float32)
    def train(weights, batches, rate):
        return _local_training(model, options, weights, batches, rate)

    @tff.tensorflow.computation(np.int32)
    def add_one(round_num):
        return round_num + 1

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def next_fn(round_num, weights, batches):
        rate = tff.federated_map(learning_rate, round_num)
        rate_at_clients = tff.federated_broadcast(rate)
        result, metrics = tff.federated_map(train, (weights, batches, rate_at_clients))
        metrics = tff.learning.metrics.sum_then_finalize(model.finalize_metrics)(metrics)
        return tff.templates.MeasuredProcessOutput(
            tff.federated_map(add_one, round_num),
            result,
            tff.federated_zip(collections.OrderedDict(train=metrics, learning_rate=rate)),
        )

    return _templates.ClientWorkProcess(initialize, next_fn)


@tf.function
def _local_training(model, options, weights, batches, rate):
    """One client's round: batches in, update and metrics out.

    Each step is w <- optimizer(w, grad F_k(w) + mu (w - w_t)), w_t the server's weights (Li et al.
    2020, Algorithm 2).
    """
    optimizer = options.client_optimizer_fn(rate)
    server, frozen = tuple(weights.trainable), tuple(weights.non_trainable)

    def step(state, batch):
        trained, optimizer_state, metrics, num_examples = state
        x, y = batch
        with tf.GradientTape() as tape:
            tape.watch(trained)
            output = model.predict_on_batch((trained, frozen), x, training=True)
            loss = model.loss(output, y)
        gradients = tape.gradient(loss, trained)
        if options.proximal_strength != 0:
            gradients = tuple(g + options.proximal_strength * (w - w0) for g, w, w0 in zip(gradients, trained, server))
        optimizer_state, trained = optimizer.next(optimizer_state, trained, gradients)
        batch_examples = tf.shape(output, tf.int64)[0]
        metrics = model.update_metrics_state(
            metrics,
            labels=y,
            batch_output=tff.learning.models.BatchOutput(loss, output, batch_examples),
        )
        return trained, optimizer_state, metrics, num_examples + batch_examples

    start = (
        server,
        optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, server)),
        model.initialize_metrics_state(),
        tf.constant(0, tf.int64),
    )
    trained, _, metrics, num_examples = batches.reduce(start, step)
    update = tf.nest.map_structure(tf.subtract, server, trained)
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(u)) for u in update])
    keep = tf.cast(finite, tf.float32)
    update = tf.nest.map_structure(lambda u: tf.where(finite, u, tf.zeros_like(u)), update)
    weight = tf.cast(num_examples, tf.float32) if options.weighted else tf.constant(1.0)
    metrics = tf.nest.map_structure(
        lambda m, zero: tf.where(finite, m, zero), metrics, model.initialize_metrics_state()
    )
    return _templates.ClientResult(update=update, update_weight=keep * weight), metrics
