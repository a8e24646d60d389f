"""SCAFFOLD (Karimireddy et al. 2020)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options
from tff_tx.core.errors import UserError, setting


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of SCAFFOLD, with its control variate c_k and the server's c, both 0 at first.

    w <- w_t; for each of K batches b: w <- w - eta (grad l(w; b) - c_k + c); c_k+ = mean of these K gradients of l;
    send w_t - w and c_k+ - c_k; c_k <- c_k+. With SGD this mean is option II of the paper,
    c_k - c + (w_t - w) / (K eta); it is defined for other optimizers, too.
    """
    optimizer, shared = one.options.client_optimizer_fn(rate), one.num_shared
    corrections = tf.nest.map_structure(tf.subtract, one.shared, one.state)

    def step(learned, gradients, examples):
        del examples
        trained, state, total, steps = learned
        gradients = client.dense(gradients, trained)
        total = tf.nest.map_structure(tf.add, total, gradients[:shared])
        corrected = tf.nest.map_structure(tf.add, gradients[:shared], corrections)
        state, trained = optimizer.next(state, trained, (*corrected, *gradients[shared:]))
        return trained, state, total, steps + 1

    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server)
    start = one.server, optimizer.initialize(specs), tf.nest.map_structure(tf.zeros_like, one.state), tf.constant(0)
    (trained, _, total, steps), seen = one.train(batches, start, step)
    after = tf.nest.map_structure(
        lambda old, new: tf.where(steps > 0, tf.math.divide_no_nan(new, tf.cast(steps, new.dtype)), old),
        one.state,
        total,
    )
    update = tf.nest.map_structure(tf.subtract, one.server, trained)
    return one.result(update, seen, after, tf.nest.map_structure(tf.subtract, after, one.state))


def build_scaffold(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds SCAFFOLD: control variates take out of clients' steps what leads away from the mean of all clients.

    https://arxiv.org/abs/1910.06378, Algorithm 1, option II, with N clients, of which S take part in a round:
    w_{t+1} = ServerOpt(w_t, 1/S sum of (w_t - w_k)); c <- c + 1/N sum of (c_k+ - c_k). N is `options.num_clients`.
    Clients retain c_k and send twice the upload of FedAvg.

    Raises:
      UserError: If options do not fit together, clients are counted by their examples, or N is not known.
    """
    check(SCAFFOLD, options, model)
    if options.num_clients is None:
        raise UserError(f"SCAFFOLD needs the number of clients: set {setting('data.num_clients')}.")

    def zeros():
        return client.zeros(model)

    def next_control(control, changes):
        return tf.nest.map_structure(lambda c, change: c + change / options.num_clients, control, changes)

    work = client.build_client_work(
        model,
        options,
        client_update,
        client_state=lambda one: zeros(),
        server_state=client.ServerState(zeros, next_control),
    )
    return client.compose(model, options, work)


SCAFFOLD = Algorithm(
    name="scaffold",
    title="SCAFFOLD",
    paper="https://arxiv.org/abs/1910.06378",
    build=build_scaffold,
    capabilities=capabilities.ALL
    - {
        capabilities.ONE_UPDATE,
        capabilities.EXAMPLE_WEIGHTING,
        capabilities.CENTRAL_DP,
        capabilities.LORA_PRODUCTS,
    },
    client_state=True,
)
