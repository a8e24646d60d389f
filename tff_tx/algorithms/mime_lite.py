"""Mime Lite (Karimireddy et al. 2021)."""

from __future__ import annotations

import collections
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.client import learning
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

    @tff.tensorflow.computation
    def first():
        state = optimizer.initialize(tuple(tf.TensorSpec(w.shape, w.dtype) for w in model.initial_weights[0]))
        return _with_rate(options, state, 0), 0

    def learn(value, gradient):
        """V: what the optimizer's state becomes by a step along the mean gradient; and the next round's rate."""
        state, round_num = value
        state, _ = optimizer.next(state, tf.nest.map_structure(tf.zeros_like, gradient), gradient)
        return (_with_rate(options, state, round_num + 1), round_num + 1), ()

    return learning.build_work(model, options, client_update, first, tff.aggregators.MeanFactory(), learn)


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
