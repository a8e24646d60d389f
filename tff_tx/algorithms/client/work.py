"""Client updates as TFF's processes: what the server sends, what clients compute, and the round's metrics."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.client.states import SHARES, ServerState, blank_state
from tff_tx.algorithms.client.training import Client
from tff_tx.runtime.form import CLIENT_STATE

if TYPE_CHECKING:
    from tff_tx.algorithms.options import Options

_templates = tff.learning.templates


def weights_type(model: tff.learning.models.FunctionalModel) -> tff.Type:
    """The type of the model's `ModelWeights`."""
    parts = (tuple(tf.TensorSpec(w.shape, w.dtype) for w in part) for part in model.initial_weights)
    return tff.types.tensorflow_to_type(tff.learning.models.ModelWeights(*parts))


def data_type(model: tff.learning.models.FunctionalModel) -> tff.SequenceType:
    """The type of a client's batches."""
    return tff.SequenceType(tff.types.tensorflow_to_type(model.input_spec))


def build_distributor(model: tff.learning.models.FunctionalModel, options: Options) -> _templates.DistributionProcess:
    """Sends clients the model, and what transforms broadcast besides.

    Returns:
      <S@SERVER, ModelWeights@SERVER> -> ModelWeights@CLIENTS, or with broadcasts OrderedDict(model=ModelWeights,
      others=OrderedDict of the transforms' values by their position in the chain)@CLIENTS.
    """
    weights = weights_type(model)
    distributor = options.distributor(model) or _templates.build_broadcast_process(weights)
    broadcasts = options.transforms.broadcasts(weights)
    if not broadcasts:
        return distributor
    names = _names(options, broadcasts)

    @tff.federated_computation
    def initialize():
        states = [tff.federated_eval(b.initialize, tff.SERVER) for b in broadcasts.values()]
        return tff.federated_zip((distributor.initialize(), *states))

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(weights, tff.SERVER))
    def next_fn(state, server):
        output = distributor.next(state[0], server)
        outputs = [tff.federated_map(b.next, (state[i + 1], server)) for i, b in enumerate(broadcasts.values())]
        others = collections.OrderedDict((n, tff.federated_broadcast(o[1])) for n, o in zip(names, outputs))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((output.state, *(o[0] for o in outputs))),
            tff.federated_zip(collections.OrderedDict(model=output.result, others=tff.federated_zip(others))),
            output.measurements,
        )

    return _templates.DistributionProcess(initialize, next_fn)


def _names(options, broadcasts):
    return [str(options.transforms.index(transform)) for transform in broadcasts]


def received_type(model: tff.learning.models.FunctionalModel, options: Options) -> tff.Type:
    """The type of what a client gets by `build_distributor`."""
    weights = weights_type(model)
    broadcasts = options.transforms.broadcasts(weights)
    if not broadcasts:
        return weights
    names = _names(options, broadcasts)
    others = ((name, b.next.type_signature.result[1]) for name, b in zip(names, broadcasts.values()))
    return tff.to_type(collections.OrderedDict(model=weights, others=collections.OrderedDict(others)))


def build_client_work(
    model: tff.learning.models.FunctionalModel,
    options: Options,
    client_update: Callable[..., tuple],
    sends_rate: bool = True,
    client_state: Callable[[Client], Any] | None = None,
    server_state: ServerState | None = None,
) -> _templates.ClientWorkProcess:
    """Clients' part of a round.

    Args:
      model: The model.
      options: Its client's rate or schedule, transforms and metrics.
      client_update: From a `Client`, its batches and, with `sends_rate`, the rate to `Client.result`.
      sends_rate: Whether the round's learning rate is broadcast, and measured as `learning_rate`.
      client_state: If not None, clients have a state, `Client.state`, of which `client_update` gives the next one to
        `Client.result`; it never leaves them (`runtime.RetainedState`). From a client that has none yet to its first
        one, a structure of tensors of static shape.
      server_state: What the server sends besides, `Client.shared`; None: nothing.
    """
    received, batches_type = received_type(model, options), data_type(model)

    shared = None if server_state is None else tff.tensorflow.computation(server_state.initialize)
    blank = None if client_state is None else blank_state(_first_state(model, options, client_state, shared))
    train = _training(model, options, client_update, sends_rate, client_state, shared, blank)
    _, metrics_type, *own_type = train.type_signature.result
    advance = _advance(server_state, shared, own_type[0] if own_type else ())
    metrics_process = build_metrics(model, metrics_type, options)
    learning_rate = _learning_rate(options)

    @tff.federated_computation
    def initialize():
        first = [] if shared is None else [tff.federated_eval(shared, tff.SERVER)]
        return tff.federated_zip(_state(tff.federated_value(0, tff.SERVER), first, metrics_process.initialize()))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(received, tff.CLIENTS),
        tff.FederatedType(batches_type, tff.CLIENTS),
    )
    def next_fn(state, received, batches):
        rate = {"learning_rate": tff.federated_map(learning_rate, state.round_num)} if sends_rate else {}
        before = [] if shared is None else [state.shared]
        more = [*rate.values(), *before, *([] if blank is None else [tff.federated_eval(blank, tff.SERVER)])]
        result, client_metrics, *own = tff.federated_map(
            train, (received, batches, *map(tff.federated_broadcast, more))
        )
        metrics = metrics_process.next(state.metrics, client_metrics)
        sums = tff.federated_sum(own[0]) if own else tff.federated_value((), tff.SERVER)
        round_num, *after = tff.federated_map(advance, (state.round_num, sums, *before))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip(_state(round_num, after, metrics.state)),
            result,
            tff.federated_zip(collections.OrderedDict(train=metrics.result, **rate)),
        )

    return _templates.ClientWorkProcess(initialize, next_fn)


def _learning_rate(options) -> tff.Computation:
    @tff.tensorflow.computation(np.int32)
    def learning_rate(round_num):
        if options.client_schedule is None:
            return tf.constant(options.client_learning_rate, tf.float32)
        return tf.cast(options.client_schedule(round_num), tf.float32)

    return learning_rate


def _state(round_num, shared, metrics):
    return collections.OrderedDict(round_num=round_num, **({"shared": shared[0]} if shared else {}), metrics=metrics)


def _first_state(model, options, client_state, shared):
    """The type of a client's state."""

    @tff.tensorflow.computation(received_type(model, options))
    def first(received):
        one = Client.receive(model, options, received)
        return client_state(one if shared is None else dataclasses.replace(one, shared=shared()))

    return first.type_signature.result


def _training(model, options, client_update, sends_rate, client_state, shared, blank):
    """(what the server sends, batches, then the rate, the shared value and the blank state, if any) -> `result`."""
    more = [np.float32] if sends_rate else []
    more += [part.type_signature.result for part in (shared, blank) if part is not None]

    def update(one, batches, *rest):
        rate, rest = rest[:sends_rate], rest[sends_rate:]
        if shared is not None:
            one = dataclasses.replace(one, shared=rest[0])
        if blank is not None:
            one = one.with_state(rest[-1][CLIENT_STATE], client_state)
        return client_update(one, batches, *rate)

    @tff.tensorflow.computation(tff.to_type((received_type(model, options), data_type(model), *more)))
    def train(inputs):
        return in_graph(update, model, options, *inputs)

    return train


def _advance(server_state, shared, sums_type):
    """(round, sums of what clients retain and of their shares, shared value if any) -> (next round, next value)."""
    more = [] if shared is None else [shared.type_signature.result]

    # Sums that are not used here would not be in a contribution, where a hook takes them out.
    @tff.tensorflow.computation(tff.StructWithPythonType([np.int32, sums_type, *more], tuple))
    def advance(inputs):
        round_num, sums, *before = inputs
        return round_num + 1, *(server_state.next(value, sums[SHARES]) for value in before)

    return advance


def in_graph(client_update: Callable, model: Any, options: Options, received: Any, *inputs: Any) -> Any:
    """Calls a client update as one TensorFlow function."""

    @tf.function(autograph=False)
    def update(received, *inputs):
        return client_update(Client.receive(model, options, received), *inputs)

    return update(received, *inputs)


def build_metrics(
    model: tff.learning.models.FunctionalModel, metrics_type: tff.Type, options: Options
) -> tff.templates.AggregationProcess:
    """From clients' unfinished metrics to the round's."""
    aggregator = options.metrics_aggregator

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

    total = (options.figures_sum or tff.aggregators.SumFactory()).create(metrics_type)

    @tff.federated_computation(total.initialize.type_signature.result, values_type)
    def pool(state, values):
        output = total.next(state, values)
        result = tff.federated_map(finalize, output.result)
        return tff.templates.MeasuredProcessOutput(output.state, result, output.measurements)

    return tff.templates.AggregationProcess(total.initialize, pool)


def compose(
    model: tff.learning.models.FunctionalModel,
    options: Options,
    client_work: _templates.ClientWorkProcess,
    server_update: _templates.FinalizerProcess | None = None,
    aggregator: tff.templates.AggregationProcess | None = None,
) -> _templates.LearningProcess:
    """An algorithm of what its clients and its server do.

    Args:
      model: The model.
      options: Parts that algorithms have in common: distributor, aggregator, and who wraps clients' work.
      client_work: The clients' part of a round.
      server_update: The server's step along the aggregate; None: that of `options.server_optimizer`.
      aggregator: Of (update, weight); None: that of the options.
    """

    @tff.tensorflow.computation
    def initial_weights():
        return tff.learning.models.ModelWeights(*model.initial_weights)

    sent = client_work.next.type_signature.result.result.member
    if options.wrap_client_work is not None:
        client_work = options.wrap_client_work(client_work)
    return _templates.compose_learning_process(
        initial_weights,
        build_distributor(model, options),
        client_work,
        aggregator or options.weighted_aggregator.create(sent.update, sent.update_weight),
        server_update or build_server_update(model, options),
    )


def build_server_update(model: tff.learning.models.FunctionalModel, options: Options) -> _templates.FinalizerProcess:
    """w_{t+1} = server optimizer(w_t, aggregate)."""
    return _templates.build_apply_optimizer_finalizer(options.server_optimizer, weights_type(model))
