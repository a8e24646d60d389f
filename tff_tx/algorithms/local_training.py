"""Local training with what TFF's builders lack: a proximal term, a teacher, rates that follow the round, other metrics.

TFF 0.87 has a builder with a schedule, for weighted FedAvg alone and not for functional models. Its
FedProx adds mu (w_t - w) to the gradient, the proximal term with the wrong sign, which drives
clients away from the server's model. This is TFF's client work for functional models with the term
of the paper, FedGKD's teacher, a schedule, either weighting, gradient accumulation, and privacy inside of the
client; without them it computes what TFF's does.
"""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import accumulation
from tff_tx.algorithms.fed_gkd import build_teacher_distributor
from tff_tx.algorithms.options import Options
from tff_tx.models import SEED, check_predicts_classes

_templates = tff.learning.templates


def build_local_training_process(
    model: tff.learning.models.FunctionalModel, options: Options
) -> _templates.LearningProcess:
    """Builds FedAvg's process with the rate of `options.client_schedule`, if there is one.

    `options.proximal_strength` adds the proximal term, `options.distillation` that of FedGKD, and
    `options.wrap_client_work` wraps what clients do. With `options.sends_loss` clients also send their mean loss, each
    batch's as it was before the step on it: with one pass over the data that is the loss on examples not trained on
    yet, the progressive validation of Blum, Kalai and Langford 1999, "Beating the Hold-Out". The metrics also hold the
    round's rate, as `client_work/learning_rate`.
    """

    @tff.tensorflow.computation
    def initial_weights():
        return tff.learning.models.ModelWeights(*model.initial_weights)

    weights_type = initial_weights.type_signature.result
    client_work = _build_client_work(model, weights_type, options)
    result_type = client_work.next.type_signature.result.result.member
    if options.wrap_client_work is not None:
        client_work = options.wrap_client_work(client_work)
    return _templates.compose_learning_process(
        initial_weights,
        _build_distributor(model, weights_type, options),
        client_work,
        options.weighted_aggregator.create(weights_type.trainable, result_type.update_weight),
        _templates.build_apply_optimizer_finalizer(options.server_optimizer, weights_type),
    )


def _build_distributor(model, weights_type, options):
    distributor = options.distributor(model) or _templates.build_broadcast_process(weights_type)
    if options.sends_teacher:
        return build_teacher_distributor(distributor, weights_type, options.distillation.models)
    return distributor


def _build_client_work(model, weights_type, options):
    data_type = tff.SequenceType(tff.types.tensorflow_to_type(model.input_spec))
    if options.distills:
        check_predicts_classes(model)

    @tff.tensorflow.computation(np.int32)
    def learning_rate(round_num):
        if options.client_schedule is None:
            return tf.constant(options.client_learning_rate, tf.float32)
        return tf.cast(options.client_schedule(round_num), tf.float32)

    if options.sends_teacher:
        received = collections.OrderedDict(model=weights_type, teacher=weights_type.trainable)
        weights_type = tff.to_type(received)

    @tff.tensorflow.computation(weights_type, data_type, np.float32)
    def train(weights, batches, rate):
        if options.sends_teacher:
            return _local_training(model, options, weights["model"], tuple(weights["teacher"]), batches, rate)
        return _local_training(model, options, weights, tuple(weights.trainable), batches, rate)

    @tff.tensorflow.computation(np.int32)
    def add_one(round_num):
        return round_num + 1

    metrics_process = _build_metrics(model, train.type_signature.result[1], options.metrics_aggregator)

    @tff.federated_computation
    def initialize():
        state = collections.OrderedDict(
            round_num=tff.federated_value(0, tff.SERVER), metrics=metrics_process.initialize()
        )
        return tff.federated_zip(state)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def next_fn(state, weights, batches):
        rate = tff.federated_map(learning_rate, state.round_num)
        rate_at_clients = tff.federated_broadcast(rate)
        result, client_metrics = tff.federated_map(train, (weights, batches, rate_at_clients))
        metrics = metrics_process.next(state.metrics, client_metrics)
        round_num = tff.federated_map(add_one, state.round_num)
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip(collections.OrderedDict(round_num=round_num, metrics=metrics.state)),
            result,
            tff.federated_zip(collections.OrderedDict(train=metrics.result, learning_rate=rate)),
        )

    return _templates.ClientWorkProcess(initialize, next_fn)


def _build_metrics(model, metrics_type, aggregator) -> tff.templates.AggregationProcess:
    """From clients' unfinished metrics to the round's."""

    @tff.tensorflow.computation(metrics_type)
    def finalize(metrics):
        return model.finalize_metrics(metrics)

    values_type = tff.FederatedType(metrics_type, tff.CLIENTS)
    if aggregator is not None:
        process = aggregator.create(finalize.type_signature.result)

        @tff.federated_computation(process.initialize.type_signature.result, values_type)
        def aggregate(state, values):
            return process.next(state, tff.federated_map(finalize, values))

        return tff.templates.AggregationProcess(process.initialize, aggregate)

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(initialize.type_signature.result, values_type)
    def pool(state, values):
        result = tff.federated_map(finalize, tff.federated_sum(values))
        return tff.templates.MeasuredProcessOutput(state, result, tff.federated_value((), tff.SERVER))

    return tff.templates.AggregationProcess(initialize, pool)


@tf.function(autograph=False)
def _local_training(model, options, weights, teacher, batches, rate):
    """One client's round: batches in, update and metrics out.

    Each step is w <- optimizer(w, grad F_k(w) + mu (w - w_t)), w_t the server's weights (Li et al.
    2020, Algorithm 2). With a teacher, F_k also has FedGKD's term; metrics are those of the labels.
    """
    optimizer, in_parts = options.client_optimizer_fn(rate), options.gradient_accumulation_steps > 1
    gradients_fn = _gradients if options.example_privacy is None else options.example_privacy.gradients
    server, frozen = tuple(weights.trainable), tuple(weights.non_trainable)

    def term(x, y, output):
        return options.distillation.term(model, (teacher, frozen), x, y, output)

    def optimize(learned, gradients, loss, examples):
        trained, optimizer_state, losses = learned
        if options.proximal_strength != 0:
            gradients = tuple(g + options.proximal_strength * (w - w0) for g, w, w0 in zip(gradients, trained, server))
        optimizer_state, trained = optimizer.next(optimizer_state, trained, gradients)
        return trained, optimizer_state, losses + loss * tf.cast(examples, tf.float32)

    def step(state, batch):
        learned, sums, metrics, num_examples, *seed = state
        (x, y), ends = batch if in_parts else (batch, None)
        gradients, loss, output = gradients_fn(model, learned[0], frozen, x, y, term if options.distills else None)
        examples = tf.shape(output, tf.int64)[0]
        if in_parts:
            items = accumulation.items(model, y, output, loss)
            total = accumulation.Sums(sums).add(items, examples, gradients, loss)
            learned = accumulation.where(ends, optimize(learned, *total.means, total.examples), learned)
            sums = accumulation.where(ends, accumulation.Sums.zero(server).leaves, total.leaves)
        else:
            learned = optimize(learned, gradients, loss, examples)
        metrics = model.update_metrics_state(
            metrics,
            labels=y,
            batch_output=tff.learning.models.BatchOutput(loss, output, examples),
        )
        return learned, sums, metrics, num_examples + examples, *(_seed_of(x) for _ in seed)

    start = (
        (server, optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, server)), tf.constant(0.0)),
        accumulation.Sums.zero(server).leaves if in_parts else (),
        model.initialize_metrics_state(),
        tf.constant(0, tf.int64),
        # The last batch's, for the noise of the update: no other client or round has it.
        *([tf.zeros([2], tf.int64)] if options.local_privacy is not None else []),
    )
    if in_parts:
        batches = accumulation.in_parts(batches, options.gradient_accumulation_steps)
    (trained, _, losses), _, metrics, num_examples, *seed = batches.reduce(start, step)
    update = tf.nest.map_structure(tf.subtract, server, trained)
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(u)) for u in update])
    keep = tf.cast(finite, tf.float32)
    update = tf.nest.map_structure(lambda u: tf.where(finite, u, tf.zeros_like(u)), update)
    if options.local_privacy is not None:
        update, keep = options.local_privacy.release(update, *seed), tf.constant(1.0)
    weight = tf.cast(num_examples, tf.float32) if options.weighted else tf.constant(1.0)
    metrics = tf.nest.map_structure(
        lambda m, zero: tf.where(finite, m, zero), metrics, model.initialize_metrics_state()
    )
    weight *= keep
    if options.sends_loss:
        mean_loss = tf.math.divide_no_nan(losses, tf.cast(num_examples, tf.float32))
        weight = collections.OrderedDict(weight=weight, loss=tf.where(finite, mean_loss, 0.0))
    return _templates.ClientResult(update=update, update_weight=weight), metrics


def _gradients(model, trained, frozen, x, y, term):
    """Of the mean loss over a batch and a term of (x, y, predictions), if any: (gradients, loss, predictions)."""
    with tf.GradientTape() as tape:
        tape.watch(trained)
        output = model.predict_on_batch((trained, frozen), x, training=True)
        loss = model.loss(output, y)
        total = loss if term is None else loss + term(x, y, output)
    return tape.gradient(total, trained), loss, output


def _seed_of(x):
    if not isinstance(x, collections.abc.Mapping) or SEED not in x:
        raise ValueError(f"noise is drawn from a client's seed, and its inputs have none named {SEED!r}.")
    return tf.cast(tf.ensure_shape(x[SEED], [2]), tf.int64)
