"""pFedMe (Dinh et al. 2020)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.ditto import first_state, own_weights
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of pFedMe, with the Moreau envelope of its loss.

    w <- w_t, theta <- w_t; for each batch b: K times theta <- theta - eta (grad l(theta; b) + lambda (theta - w)), then
    w <- w - eta lambda (w - theta); keep theta, send w_t - w.
    """
    optimizer, strength, number = (
        one.options.client_optimizer_fn(rate),
        one.options.personal_strength,
        one.options.moreau_steps,
    )

    def step(learned, gradients, examples):
        del examples
        theta, state, local, count = learned
        pulled = tuple(tf.convert_to_tensor(g) + strength * (t - w) for g, t, w in zip(gradients, theta, local))
        state, theta = optimizer.next(state, theta, pulled)
        share = tf.where(tf.equal((count + 1) % number, 0), tf.minimum(rate * strength, 1.0), 0.0)
        local = tuple(w - tf.cast(share, w.dtype) * (w - t) for w, t in zip(local, theta))
        return theta, state, local, count + 1

    start = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server))
    repeated = batches.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(number))
    (theta, _, local, _), seen = one.train(repeated, (one.server, start, one.server, 0), step)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, local), seen, state=theta)


def build_p_fed_me(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds pFedMe: clients minimize their loss near a point, and the server averages how these points move.

    https://arxiv.org/abs/2006.08848, Algorithm 1, with one rate eta for both steps and the clients' optimizer for the
    inner one; lambda is `options.personal_strength`, K `options.moreau_steps`, beta the server's learning rate. Of
    metrics of training each batch counts K times.

    Raises:
      UserError: If options do not fit together.
    """
    check(P_FED_ME, options, model)
    work = client.build_client_work(model, options, client_update, client_state=first_state)
    return client.compose(model, options, client_work=work)


P_FED_ME = Algorithm(
    name="p_fed_me",
    title="pFedMe",
    paper="https://arxiv.org/abs/2006.08848",
    build=build_p_fed_me,
    capabilities=capabilities.BESIDE,
    own_weights=own_weights,
)
