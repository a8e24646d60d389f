"""Per-FedAvg (Fallah, Mokhtari and Ozdaglar 2020)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of Per-FedAvg, of its batches two or three at a time.

    w <- w_t; for each D, D' (and D''): w' = w - alpha grad l(w; D), g = grad l(w'; D'),
    w <- w - beta g (FO), or w <- w - beta (g - alpha d) (HF), d = [grad l(w + delta g; D'') - grad l(w - delta g; D'')]
    / (2 delta); send w_t - w. Batches are passed over as often as a step takes of them, so that a round has as many
    steps as FedAvg's, and a single batch is D, D' and D''.
    """
    optimizer, alpha, delta = (
        one.options.client_optimizer_fn(rate),
        one.options.inner_learning_rate,
        one.options.hessian_step,
    )

    def move(weights, gradients, by):
        return tuple(w + tf.cast(by, w.dtype) * g for w, g in zip(weights, gradients))

    def step(learned, gradients, examples):
        del examples
        _, weights, state, outer, ahead, phase = learned
        gradients = client.dense(gradients, weights)

        def adapt():
            return move(weights, gradients, -alpha), weights, state, outer, ahead

        def look_ahead():
            return move(weights, gradients, delta), weights, state, gradients, ahead

        def look_back():
            return move(weights, outer, -delta), weights, state, outer, gradients

        def learn(direction):
            state_after, after = optimizer.next(state, weights, direction)
            return after, after, state_after, outer, ahead

        def learn_second_order():
            return learn(tuple(g - alpha / (2 * delta) * (a - b) for g, a, b in zip(outer, ahead, gradients)))

        phases = [adapt, lambda: learn(gradients)]
        if delta is not None:
            phases = [adapt, look_ahead, look_back, learn_second_order]
        return *tf.switch_case(phase, phases), (phase + 1) % len(phases)

    parts = 2 if delta is None else 4
    blank = () if delta is None else tf.nest.map_structure(tf.zeros_like, one.server)
    state = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server))
    start = one.server, one.server, state, blank, blank, tf.constant(0)
    (_, trained, *_), seen = one.train(_dealt(batches, delta is not None), start, step)
    # Each example was seen so often, and counts once.
    seen = seen._replace(losses=seen.losses / parts, examples=seen.examples // parts)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, trained), seen)


def _dealt(batches: tf.data.Dataset, second_order: bool) -> tf.data.Dataset:
    """D, D', D, D', ... or D, D', D'', D'', D, ...: on each D'' there are two gradients."""
    if not second_order:
        return batches.repeat(2)

    def dealt(number: tf.Tensor, batch: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(batch).repeat(1 + tf.cast(tf.equal(number % 3, 2), tf.int64))

    return batches.repeat(3).enumerate().flat_map(dealt)


def build_per_fed_avg(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds Per-FedAvg: the model becomes one that a gradient step on a client's own data makes good for that client.

    https://arxiv.org/abs/2002.07948, Algorithm 1 and section 5, MAML across clients: FO leaves out the second-order
    term, HF takes it from a difference of gradients. alpha is `options.inner_learning_rate`, beta the client's rate,
    delta `options.hessian_step`; the server averages as in FedAvg. With alpha = 0 it is FedAvg on every second batch.
    To use the model, take steps on the client's own data, as with `--personalize_epochs`.

    Raises:
      UserError: If options do not fit together.
    """
    check(PER_FED_AVG, options, model)
    return client.compose(model, options, client.build_client_work(model, options, client_update))


PER_FED_AVG = Algorithm(
    name="per_fed_avg",
    title="Per-FedAvg",
    paper="https://arxiv.org/abs/2002.07948",
    build=build_per_fed_avg,
    capabilities=capabilities.ALL - {capabilities.EXAMPLE_DP, capabilities.LORA_PRODUCTS},
)
