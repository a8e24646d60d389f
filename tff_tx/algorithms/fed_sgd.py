"""Federated SGD (McMahan et al. 2017)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options


def mean_gradient(one: client.Client, batches: tf.data.Dataset) -> tuple[tuple, client.Seen]:
    """g_k = 1/n_k sum_b n_b grad l(w_t; b), over all batches at the server's weights; and what was seen."""

    def step(total, gradients, examples):
        number = tf.cast(examples, tf.float32)
        # Rows of an embedding table become a table.
        return tuple(t + number * tf.convert_to_tensor(g) for t, g in zip(total, gradients))

    zeros = tuple(map(tf.zeros_like, one.server))
    total, seen = one.train(batches, zeros, step, weights=lambda _: one.server)
    number = tf.cast(seen.examples, tf.float32)
    return tuple(t / number for t in total), seen


def client_update(one: client.Client, batches: tf.data.Dataset) -> tuple:
    """Sends g_k, of weight n_k."""
    return one.result(*mean_gradient(one, batches))


def build_fed_sgd(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedSGD: clients send the mean gradient over their examples, the server takes one step along the mean.

    https://arxiv.org/abs/1602.05629, section 2: w_{t+1} = w_t - alpha sum_k n_k/n g_k; alpha is the rate of the
    server's optimizer. The clients' optimizer is not used.

    Raises:
      UserError: If options do not fit together, or have an effect on clients' optimizers only.
    """
    check(FED_SGD, options, model)
    return client.compose(
        model,
        options,
        client_work=client.build_client_work(model, options, client_update, sends_rate=False),
        server_update=client.build_server_update(model, options),
    )


FED_SGD = Algorithm(
    name="fed_sgd",
    title="FedSGD",
    paper="https://arxiv.org/abs/1602.05629",
    build=build_fed_sgd,
    capabilities=capabilities.ALL
    - {
        capabilities.CLIENT_OPTIMIZER,
        capabilities.CLIENT_RATE,
        capabilities.SENDS_MODEL,
        capabilities.LORA_PRODUCTS,
        capabilities.PERSONAL_WEIGHTS,
    },
)
