"""Delta-SGD (Kim et al. 2024)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options

GAMMA, DELTA, FIRST_RATE = 2.0, 0.1, 0.2
"""The paper's, for all of its tasks."""


def client_update(one: client.Client, batches: tf.data.Dataset) -> tuple:
    """The client's part: send w_t - w, of weight n_k.

    w <- w_t, eta <- eta_0, theta <- 1; for each batch b with gradient g, from the second on with w', g' of the last:
    eta' <- min(gamma |w - w'| / (2 |g - g'|), sqrt(1 + delta theta) eta), theta <- eta' / eta, eta <- eta';
    w <- w - eta g. Where w = w', as after a batch without a gradient, the first of the two does not count.
    """

    def step(learned, gradients, examples):
        del examples
        trained, before, old_gradients, rate, growth, number = learned
        gradients = tuple(map(tf.convert_to_tensor, gradients))  # rows of an embedding table become a table
        smoothness = tf.linalg.global_norm(_differences(gradients, old_gradients))
        moved = tf.linalg.global_norm(_differences(trained, before))
        most = tf.sqrt(1.0 + DELTA * growth) * rate
        # A batch without a gradient, as one without labels, moves nothing and tells nothing of the smoothness.
        is_known = (smoothness > 0) & (moved > 0)
        local = tf.where(is_known, GAMMA * moved / tf.maximum(2 * smoothness, 1e-30), most)
        new = tf.where(number > 0, tf.minimum(local, most), rate)
        ahead = tuple(w - tf.cast(new, w.dtype) * g for w, g in zip(trained, gradients))
        return ahead, trained, gradients, new, tf.where(number > 0, new / rate, growth), number + 1

    zeros = tuple(map(tf.zeros_like, one.server))
    start = one.server, one.server, zeros, tf.constant(FIRST_RATE), tf.constant(1.0), tf.constant(0)
    (trained, *_), seen = one.train(batches, start, step)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, trained), seen)


def _differences(left, right):
    return [tf.cast(a, tf.float32) - tf.cast(b, tf.float32) for a, b in zip(left, right)]


def build_delta_sgd(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds Delta-SGD: FedAvg whose clients take the rate of each step from how smooth their loss has been so far.

    https://arxiv.org/abs/2306.11201, Algorithm 1, with the paper's gamma = 2, delta = 0.1 and eta_0 = 0.2 for all
    tasks. The clients' optimizer and its rate are not used.

    Raises:
      UserError: If options do not fit together, or have an effect on clients' optimizers only.
    """
    check(DELTA_SGD, options, model)
    return client.compose(
        model,
        options,
        client_work=client.build_client_work(model, options, client_update, sends_rate=False),
        server_update=client.build_server_update(model, options),
    )


DELTA_SGD = Algorithm(
    name="delta_sgd",
    title="Delta-SGD",
    paper="https://arxiv.org/abs/2306.11201",
    build=build_delta_sgd,
    capabilities=capabilities.ALL - {capabilities.CLIENT_RATE},
)
