"""APFL (Deng et al. 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options


@dataclasses.dataclass(frozen=True)
class _Both(client.ClientTransform):
    """Gradients of the shared weights w, of the own ones v in the mixture alpha v + (1 - alpha) w, and of alpha."""

    def gradients(self, context: client.Context, trained: tuple, x: Any, y: Any, loss_fn: Callable) -> tuple:
        *both, alpha = trained
        shared, own = tuple(both[: len(both) // 2]), tuple(both[len(both) // 2 :])
        of_shared, loss, output = super().gradients(context, shared, x, y, loss_fn)
        of_mixture, _, _ = super().gradients(context, mixture(shared, (own, alpha)), x, y, loss_fn)
        of_mixture = tuple(map(tf.convert_to_tensor, of_mixture))
        slope = tf.add_n([tf.reduce_sum(g * (v - w)) for g, v, w in zip(of_mixture, own, shared)])
        return (*of_shared, *(alpha * g for g in of_mixture), slope), loss, output


def first_state(one: client.Client) -> tuple:
    """(v_k, alpha_k) before the client's first round: the server's weights, and how they are mixed at first."""
    return one.server, tf.constant(one.options.mixing)


def mixture(shared: tuple, state: tuple) -> tuple:
    """A client's own trainable weights: alpha v + (1 - alpha) w."""
    own, alpha = state
    return tuple(alpha * v + (1 - alpha) * w for v, w in zip(own, shared))


def own_weights(shared: tuple, state: tuple) -> tuple:
    """The mixture, of the leaves of a client's state."""
    return mixture(shared, (state[:-1], state[-1]))


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of APFL, with weights v_k of its own and their share alpha_k in its model.

    w <- w_t; for each batch b, with u = alpha_k v_k + (1 - alpha_k) w, at once: w <- w - eta grad l(w; b);
    v_k <- v_k - eta alpha_k grad l(u; b); and on the first alpha_k <- alpha_k - rho <grad l(u; b), v_k - w>, within
    [0, 1]; keep v_k and alpha_k, send w_t - w.
    """
    optimizer, (own, alpha) = one.options.client_optimizer_fn(rate), one.state
    start = (*one.server, *own)

    def step(learned, gradients, examples):
        del examples
        (*both, alpha), state, is_first = learned
        state, both = optimizer.next(state, tuple(both), tuple(gradients[:-1]))
        slope = tf.where(is_first, gradients[-1], 0.0)
        alpha = tf.clip_by_value(alpha - one.options.mixing_rate * slope, 0.0, 1.0)
        return (*both, alpha), state, tf.constant(False)

    options = dataclasses.replace(one.options, transforms=(*one.options.transforms, _Both()))
    context = one.context._replace(server=(*start, alpha))
    state = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, start))
    mixing = dataclasses.replace(one, options=options, context=context)
    ((*both, alpha), _, _), seen = mixing.train(batches, ((*start, alpha), state, tf.constant(True)), step)
    weights, own = tuple(both[: len(own)]), tuple(both[len(own) :])
    return one.result(tf.nest.map_structure(tf.subtract, one.server, weights), seen, state=(own, alpha))


def build_apfl(model: tff.learning.models.FunctionalModel, options: Options) -> tff.learning.templates.LearningProcess:
    """Builds APFL: a client's model is a mixture of shared and own weights, and learns how much of each.

    https://arxiv.org/abs/2003.13461, Algorithm 1; alpha begins as `options.mixing` and is learned at the rate
    `options.mixing_rate`. With alpha 0 and rate 0 a client's own model is FedAvg's.

    Raises:
      UserError: If options do not fit together.
    """
    check(APFL, options, model)
    work = client.build_client_work(model, options, client_update, client_state=first_state)
    return client.compose(model, options, client_work=work)


APFL = Algorithm(
    name="apfl",
    title="APFL",
    paper="https://arxiv.org/abs/2003.13461",
    build=build_apfl,
    capabilities=capabilities.BESIDE,
    own_weights=own_weights,
)
