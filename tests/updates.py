"""A learning process whose clients send the updates that they are given: what an aggregator makes of them is its model.

It has everything that a real process has for an engine, and a round takes milliseconds.
"""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

_templates = tff.learning.templates

SHAPES = collections.OrderedDict(
    embedding=[4, 3], layers=collections.OrderedDict(first=collections.OrderedDict(kernel=[3, 2], bias=[2])), scale=[]
)
"""A nested structure with a scalar in it."""

WEIGHT = np.float32
SCORED = collections.OrderedDict(weight=np.float32, loss=np.float32)


def _is_shape(x):
    return isinstance(x, list)


def structure(fn):
    """The structure of an update with `fn(shape)` in the places of the leaves."""

    def build(node):
        if _is_shape(node):
            return fn(node)
        return collections.OrderedDict((k, build(v)) for k, v in node.items())

    return build(SHAPES)


LAYERS = (slice(0, 12), slice(12, 14), slice(14, 20), slice(20, 21))
"""Of the vector of an update: embedding, bias, kernel and scale, in the order of `tf.nest`."""

SIZE = 21


def pack(vector):
    """An update from a vector float32 [SIZE]."""
    shapes = structure(tf.TensorShape)
    leaves = np.split(
        np.asarray(vector, np.float32), np.cumsum([shape.num_elements() for shape in tf.nest.flatten(shapes)])
    )
    return tf.nest.pack_sequence_as(
        shapes, [leaf.reshape(shape) for leaf, shape in zip(leaves, tf.nest.flatten(shapes))]
    )


def flat(value):
    """The vector of an update."""
    return np.concatenate([np.reshape(leaf, -1) for leaf in tf.nest.flatten(value)])


def build_process(factory, weight_type=WEIGHT):
    """The process; its initial model is 0, and a round subtracts the aggregate."""
    update_type = tff.to_type(structure(lambda shape: tff.TensorType(np.float32, shape)))
    weight_type = tff.to_type(weight_type)
    if isinstance(factory, tff.aggregators.UnweightedAggregationFactory):
        factory = tff.aggregators.as_weighted_aggregator(factory)
    aggregator = factory.create(update_type, weight_type)

    @tff.tensorflow.computation
    def initial_weights():
        return tff.learning.models.ModelWeights(structure(tf.zeros), ())

    weights_type = initial_weights.type_signature.result
    return _templates.compose_learning_process(
        initial_weights,
        _templates.build_broadcast_process(weights_type),
        _client_work(weights_type, update_type, weight_type),
        aggregator,
        _finalizer(weights_type, update_type),
    )


def _client_work(weights_type, update_type, weight_type):
    element_type = tff.to_type(collections.OrderedDict(update=update_type, weight=weight_type))

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.tensorflow.computation(tff.SequenceType(element_type))
    def read(data):
        element = data.get_single_element()
        return _templates.ClientResult(element["update"], element["weight"])

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(tff.SequenceType(element_type), tff.CLIENTS),
    )
    def next_fn(state, weights, data):
        del weights
        nothing = tff.federated_value((), tff.SERVER)
        return tff.templates.MeasuredProcessOutput(state, tff.federated_map(read, data), nothing)

    return _templates.ClientWorkProcess(initialize, next_fn)


def _finalizer(weights_type, update_type):
    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.tensorflow.computation(weights_type, update_type)
    def subtract(weights, update):
        return tff.learning.models.ModelWeights(tf.nest.map_structure(tf.subtract, weights.trainable, update), ())

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(update_type, tff.SERVER),
    )
    def next_fn(state, weights, update):
        nothing = tff.federated_value((), tff.SERVER)
        return tff.templates.MeasuredProcessOutput(state, tff.federated_map(subtract, (weights, update)), nothing)

    return _templates.FinalizerProcess(initialize, next_fn)


def clients(updates, weights, losses=None):
    """What a round tells its clients: rows float32 [n, SIZE], weights [n]."""
    losses = [None] * len(weights) if losses is None else losses
    return [
        tf.data.Dataset.from_tensors(
            collections.OrderedDict(
                update=pack(update),
                weight=np.float32(weight)
                if loss is None
                else collections.OrderedDict(weight=np.float32(weight), loss=np.float32(loss)),
            )
        )
        for update, weight, loss in zip(updates, weights, losses)
    ]


def aggregate(engine, round_clients, state=None, min_clients=1):
    """The aggregate as a vector, the aggregator's measurements, and the new state."""
    state = engine.initialize() if state is None else state
    before = flat(engine.model_weights(state).trainable)
    output = engine.run_round(state, round_clients, min_clients=min_clients)
    after = flat(engine.model_weights(output.state).trainable)
    return before - after, output.metrics["aggregator"], output.state
