"""A process whose clients send what they are told to: aggregators with a law of their own, on any engine."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

templates = tff.learning.templates


def process(aggregator, size):
    """A `LearningProcess` over one weight of `size` numbers, from which the aggregate is subtracted.

    A client's data are batches `value` [size] and `divisor` []: it sends the last value over the last divisor.
    """
    weights_type = tff.types.to_type(tff.learning.models.ModelWeights((tff.TensorType(np.float32, [size]),), ()))
    batch_type = tff.types.to_type(
        collections.OrderedDict(value=tff.TensorType(np.float32, [size]), divisor=tff.TensorType(np.float32))
    )
    data_type = tff.SequenceType(batch_type)

    @tff.tensorflow.computation
    def initial_weights():
        return tff.learning.models.ModelWeights((tf.zeros([size]),), ())

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.tensorflow.computation(weights_type, data_type)
    @tf.function
    def work(weights, batches):
        start = (tf.zeros([size]), tf.constant(1.0))
        value, divisor = batches.reduce(start, lambda _, batch: (batch["value"], batch["divisor"]))
        return templates.ClientResult(update=(value / divisor,), update_weight=tf.constant(1.0))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def next_fn(state, weights, batches):
        result = tff.federated_map(work, (weights, batches))
        return tff.templates.MeasuredProcessOutput(state, result, tff.federated_value((), tff.SERVER))

    update_type = weights_type.trainable
    return templates.compose_learning_process(
        initial_weights,
        templates.build_broadcast_process(weights_type),
        templates.ClientWorkProcess(initialize, next_fn),
        tff.aggregators.as_weighted_aggregator(aggregator).create(update_type, tff.TensorType(np.float32)),
        templates.build_apply_optimizer_finalizer(tff.learning.optimizers.build_sgdm(1.0), weights_type),
    )


def client(value, divisor=1.0):
    """A client that sends `value` / `divisor`."""
    batch = collections.OrderedDict(value=[np.float32(value)], divisor=[np.float32(divisor)])
    return tf.data.Dataset.from_tensor_slices(batch)


def aggregates(engine, rounds):
    """What the aggregator gave in each of some rounds, a list of clients' lists."""
    state, before, found = engine.initialize(), 0.0, []
    for clients in rounds:
        state = engine.run_round(state, clients, min_clients=0).state
        (after,) = engine.model_weights(state).trainable
        found.append(before - np.asarray(after))
        before = np.asarray(after)
    return found
