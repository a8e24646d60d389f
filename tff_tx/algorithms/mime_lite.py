"""Mime Lite (Karimireddy et al. 2021)."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.client import work
from tff_tx.algorithms.fed_sgd import mean_gradient
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, optimizer_state: Any) -> tuple:
    """The client's part of MimeLite: (`Client.result`, g_k).

    g_k = grad F_k(w_t); w <- w_t; for each batch b: w <- w - eta U(grad l(w; b), s), the server's state s unchanged;
    send w_t - w and g_k.
    """
    optimizer = one.options.client_optimizer
    gradient, _ = mean_gradient(one, batches)

    def step(learned, gradients, examples):
        del examples
        _, trained = optimizer.next(optimizer_state, learned[0], gradients)
        return (trained,)

    (trained,), seen = one.train(batches, (one.server,), step)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, trained), seen), gradient


def build_mime_lite(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds Mime Lite: clients use the server's optimizer state unchanged, the server updates it with full gradients.

    https://arxiv.org/abs/2008.03606, Algorithm 1 (MimeLite); the base optimizer U is `options.client_optimizer_fn`'s.
    The server: w_{t+1} = ServerOpt(w_t, mean of updates), s <- V(mean of g_k, s). Clients send the gradient at the
    server's weights besides their update: twice the upload of FedAvg.

    Raises:
      UserError: If options do not fit together, or need clients that send one update only.
    """
    check(MIME_LITE, options, model)
    return client.compose(
        model,
        options,
        client_work=_build_client_work(model, options),
        server_update=client.build_server_update(model, options),
    )


def _with_rate(options, state, round_num):
    """The base optimizer's state at the rate of a round."""
    if options.client_schedule is None:
        return state
    optimizer, rate = options.client_optimizer, options.client_schedule(round_num)
    return optimizer.set_hparams(state, collections.OrderedDict(optimizer.get_hparams(state), learning_rate=rate))


def _build_client_work(model, options):
    """Clients' work whose state is that of the base optimizer, at the round's rate."""
    optimizer = options.client_optimizer
    received, data, weights = work.received_type(model, options), work.data_type(model), work.weights_type(model)
    mean = tff.aggregators.MeanFactory().create(weights.trainable, tff.TensorType(np.float32))

    @tff.tensorflow.computation
    def optimizer_state():
        state = optimizer.initialize(tuple(tf.TensorSpec(w.shape, w.dtype) for w in model.initial_weights[0]))
        return _with_rate(options, state, 0)

    state_type = optimizer_state.type_signature.result

    @tff.tensorflow.computation(received, data, state_type)
    def train(received, batches, state):
        return work.in_graph(client_update, model, options, received, batches, state)

    @tff.tensorflow.computation(state_type, weights.trainable, np.int32)
    def update_state(state, gradient, round_num):
        """V: what the optimizer's state becomes by a step along the mean gradient; and the next round's rate."""
        state, _ = optimizer.next(state, tf.nest.map_structure(tf.zeros_like, gradient), gradient)
        return _with_rate(options, state, round_num + 1), round_num + 1

    metrics_process = work.build_metrics(model, train.type_signature.result[0][1], options)

    @tff.federated_computation
    def initialize():
        return tff.federated_zip(
            collections.OrderedDict(
                optimizer=tff.federated_eval(optimizer_state, tff.SERVER),
                gradient=mean.initialize(),
                round_num=tff.federated_value(0, tff.SERVER),
                metrics=metrics_process.initialize(),
            )
        )

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(received, tff.CLIENTS),
        tff.FederatedType(data, tff.CLIENTS),
    )
    def next_fn(state, received, batches):
        at_clients = tff.federated_broadcast(state.optimizer)
        sent, gradients = tff.federated_map(train, (received, batches, at_clients))
        result, client_metrics = sent
        weight = result.update_weight.weight if options.sends_loss else result.update_weight
        gradient = mean.next(state.gradient, gradients, weight)
        metrics = metrics_process.next(state.metrics, client_metrics)
        new, round_num = tff.federated_map(update_state, (state.optimizer, gradient.result, state.round_num))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip(
                collections.OrderedDict(
                    optimizer=new, gradient=gradient.state, round_num=round_num, metrics=metrics.state
                )
            ),
            result,
            tff.federated_zip(collections.OrderedDict(train=metrics.result)),
        )

    return tff.learning.templates.ClientWorkProcess(initialize, next_fn)


MIME_LITE = Algorithm(
    name="mime_lite",
    title="Mime Lite",
    paper="https://arxiv.org/abs/2008.03606",
    build=build_mime_lite,
    capabilities=capabilities.ALL
    - {
        capabilities.ONE_UPDATE,
        capabilities.CENTRAL_DP,
        capabilities.SECURE_SUMS,
        capabilities.EXAMPLE_DP,
        capabilities.LORA_PRODUCTS,
        capabilities.PERSONAL_WEIGHTS,
    },
)
