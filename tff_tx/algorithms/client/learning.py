"""Clients' work from which the server learns more than a model."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import all_finite
from tff_tx.algorithms.client import work

if TYPE_CHECKING:
    from tff_tx.algorithms.options import Options


def build_work(
    model: tff.learning.models.FunctionalModel,
    options: Options,
    client_update: Callable[..., tuple],
    first: tff.Computation,
    total: Any,
    learn: Callable[[Any, Any], tuple],
    figures: str | None = None,
) -> tff.learning.templates.ClientWorkProcess:
    """Clients' part of a round in which the server learns from a second thing that clients send.

    Args:
      model: The model.
      options: Its client's transforms and metrics.
      client_update: From a `Client`, its batches and what it got to (`Client.result`, the second thing). One that is
        not finite becomes zeros, like such an update.
      first: Gives what the server begins with, a tuple of which clients get the first part.
      total: The factory that aggregates the second thing; the weights of a weighted one are those of updates.
      learn: From what the server has and the aggregate to what it has next, and figures.
      figures: Their name in the round's metrics; None: they are not there.
    """
    received, batches_type = work.received_type(model, options), work.data_type(model)
    value_type = first.type_signature.result

    @tff.tensorflow.computation(received, batches_type, value_type[0])
    def train(received, batches, value):
        result, second = work.in_graph(client_update, model, options, received, batches, value)
        return result, _zeros_unless_finite(second)

    result_type, second_type = train.type_signature.result
    weighted = isinstance(total, tff.aggregators.WeightedAggregationFactory)
    total = total.create(second_type, *([tff.TensorType(np.float32)] if weighted else []))
    metrics_process = work.build_metrics(model, result_type[1], options)

    @tff.tensorflow.computation(value_type, total.next.type_signature.result.result.member)
    def learn_next(value, aggregate):
        return learn(value, aggregate)

    @tff.federated_computation
    def initialize():
        return _together(tff.federated_eval(first, tff.SERVER), total.initialize(), metrics_process.initialize())

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(received, tff.CLIENTS),
        tff.FederatedType(batches_type, tff.CLIENTS),
    )
    def next_fn(state, received, batches):
        sent, second = tff.federated_map(train, (received, batches, tff.federated_broadcast(state.value[0])))
        result, client_metrics = sent
        weight = result.update_weight.weight if options.sends_loss else result.update_weight
        aggregate = total.next(state.total, second, *([weight] if weighted else []))
        value, learned = tff.federated_map(learn_next, (state.value, aggregate.result))
        metrics = metrics_process.next(state.metrics, client_metrics)
        measured = {"train": metrics.result, **({} if figures is None else {figures: learned})}
        return tff.templates.MeasuredProcessOutput(
            _together(value, aggregate.state, metrics.state),
            result,
            tff.federated_zip(collections.OrderedDict(measured)),
        )

    return tff.learning.templates.ClientWorkProcess(initialize, next_fn)


def _zeros_unless_finite(structure):
    finite = all_finite(structure)
    return tf.nest.map_structure(lambda leaf: tf.where(finite, leaf, tf.zeros_like(leaf)), structure)


def _together(value, total, metrics):
    return tff.federated_zip(collections.OrderedDict(value=value, total=total, metrics=metrics))
