"""FedEx (Khodak et al. 2021)."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.client import learning
from tff_tx.algorithms.client.noise import NO_SEED, split_seed
from tff_tx.algorithms.options import Options

DISCOUNT = 0.9
"""Of earlier rounds' losses in the baseline."""
_HPARAMS = ("learning_rate", "momentum", "weight_decay")
_BUILT_WITH = ("clip_norm", "learning_rate_factor")
CHOICES = (*_HPARAMS, *_BUILT_WITH, "steps", "epochs", "dropout")
"""What clients may draw: `epochs` as a share of the batches that they get, `dropout` of models with `at_dropout`."""
_PURPOSE = 23  # folded into a batch's seed, so that the choice is independent of dropout


def client_update(one: client.Client, batches: tf.data.Dataset, probabilities: tf.Tensor) -> tuple:
    """The client's part: (`Client.result`, one-hot sums of its choice).

    Draw c from theta; w <- w_t; for each batch b: w <- w - U_c(grad l(w; b)), with the optimizer and the number of
    steps of choice c; send w_t - w, and in place c of [k] the sum over examples of the change of the loss, and their
    number.
    """
    choices = [dict(choice) for choice in one.options.client_choices]
    drawn = _draw(batches, probabilities)
    chosen = {name: tf.gather(tf.constant([c[name] for c in choices], tf.float32), drawn) for name in choices[0]}
    batches = _batches_of(chosen, batches)
    optimizer, hparams = _optimizer_of(chosen, one.options)
    learner = one
    if "dropout" in chosen:
        learner = dataclasses.replace(
            one, context=one.context._replace(model=one.context.model.at_dropout(chosen["dropout"]))
        )

    def step(learned, gradients, examples):
        del examples
        trained, state = learned
        state, trained = optimizer.next(state, trained, gradients)
        return trained, state

    state = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server))
    state = optimizer.set_hparams(state, collections.OrderedDict(optimizer.get_hparams(state), **hparams))
    (trained, _), seen = learner.train(batches, (one.server, state), step)
    here = tf.one_hot(drawn, len(choices))
    examples = tf.cast(seen.examples, tf.float32)
    sums = collections.OrderedDict(loss=here * _change(one, learner, batches, trained, seen), examples=here * examples)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, trained), seen), sums


def _batches_of(chosen, batches):
    """The batches of a client that has drawn fewer steps or epochs than it has batches for."""
    if "epochs" in chosen:
        number = tf.cast(batches.reduce(tf.constant(0), lambda number, _: number + 1), tf.float32)
        batches = batches.take(tf.cast(tf.round(chosen["epochs"] * number), tf.int64))
    return batches.take(tf.cast(chosen["steps"], tf.int64)) if "steps" in chosen else batches


def _optimizer_of(chosen, options):
    """(optimizer, hyper-parameters of its state that were drawn)."""
    hparams = {name: chosen[name] for name in _HPARAMS if name in chosen}
    # Optimizers have a momentum in their state only if they are built with one.
    built = {name: 0.5 for name in hparams if name != "learning_rate"}
    built |= {name: chosen[name] for name in _BUILT_WITH if name in chosen}
    return options.client_optimizer_fn(options.client_learning_rate, **built), hparams


def _draw(batches, probabilities):
    """The choice of a client in a round, int32: by the seed of its first batch."""

    def seed_of(_, element):
        _, seed = split_seed(element[0])
        if seed is None:
            raise ValueError(NO_SEED)
        return tf.cast(tf.ensure_shape(seed, [2]), tf.int64)

    seed = batches.take(1).reduce(tf.zeros([2], tf.int64), seed_of)
    folded = tf.random.experimental.stateless_fold_in(seed, _PURPOSE)
    draw = tf.random.stateless_uniform([], folded)
    below = tf.cast(tf.cumsum(probabilities) <= draw, tf.int32)
    return tf.minimum(tf.reduce_sum(below), tf.shape(probabilities)[0] - 1)


def _change(one, learner, batches, trained, seen):
    """Sum over examples of the loss while the client trains, less that of the server's model on the same batches.

    Each batch counts as it was before the step on it, so on examples not trained on yet in a pass; but the first, which
    all choices see with the server's model, counts as it is at the end. The server's model has the same dropout as the
    client's: else a choice of a higher rate would count for the noise that it adds to the loss.
    """
    frozen = one.context.frozen

    def losses(weights, batches, model=one.context.model, training=False):
        def add(total, batch):
            x, y = batch
            output = model.predict_on_batch((weights, frozen), x, training=training)
            return total + tf.cast(tf.shape(output)[0], tf.float32) * model.loss(output, y)

        return batches.reduce(0.0, add)

    first = batches.take(1)
    gained = losses(trained, first) - losses(one.server, first)
    return seen.losses + gained - losses(one.server, batches, learner.context.model, training=True)


def server_choice(state: Any, sums: Any) -> tuple[Any, tf.Tensor]:
    """(state, probabilities) after a round, of theta and the baseline.

    lambda <- discounted mean of the losses of the rounds before; g_j = (sum of losses - lambda n)_j / (theta_j n);
    eta = sqrt(2 log k / sum of |g|_inf^2 so far); theta_j <- theta_j exp(-eta g_j) / Z.
    """
    theta, examples = state["probabilities"], tf.reduce_sum(sums["examples"])
    mean = tf.math.divide_no_nan(tf.reduce_sum(sums["loss"]), examples)
    baseline = tf.where(state["weight"] > 0, tf.math.divide_no_nan(state["losses"], state["weight"]), mean)
    gradient = tf.math.divide_no_nan(sums["loss"] - baseline * sums["examples"], tf.maximum(theta, 1e-8) * examples)
    squares = state["squares"] + tf.square(tf.reduce_max(tf.abs(gradient)))
    rate = tf.math.divide_no_nan(math.sqrt(2 * math.log(theta.shape[0])), tf.sqrt(squares))
    logits = tf.math.log(tf.maximum(theta, 1e-30)) - rate * gradient
    state = collections.OrderedDict(
        probabilities=tf.nn.softmax(logits),
        squares=squares,
        losses=DISCOUNT * state["losses"] + mean,
        weight=DISCOUNT * state["weight"] + tf.where(examples > 0, 1.0, 0.0),
    )
    return state, state["probabilities"]


def build_fed_ex(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedEx: FedAvg whose clients draw their settings from a distribution that the server learns meanwhile.

    https://arxiv.org/abs/2106.04502, Algorithm 2 (FedEx), with the adaptive step size and the discounted baseline of
    its section 3. The choices are `options.client_choices`. Where the paper takes the loss of the client's validation
    data after local training, this takes the change of the loss during it (progressive validation, Blum et al. 1999),
    so that no example is set aside. Besides the mean update the server needs two sums of k numbers over clients.
    `choices/probability_j` is the distribution.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_EX, options, model)
    return client.compose(
        model,
        options,
        client_work=_build_client_work(model, options),
        server_update=client.build_server_update(model, options),
    )


def _initial(number):
    zeros = {name: np.float32(0) for name in ("squares", "losses", "weight")}
    return collections.OrderedDict(probabilities=np.full(number, 1 / number, np.float32), **zeros)


def _build_client_work(model, options):
    """Clients' work whose state is the distribution."""
    number = len(options.client_choices)

    @tff.tensorflow.computation
    def distribution():
        state = tf.nest.map_structure(tf.constant, _initial(number))
        return state["probabilities"], state

    def learn(value, sums):
        state, theta = server_choice(value[1], sums)
        return (theta, state), collections.OrderedDict((f"probability_{j}", theta[j]) for j in range(number))

    total = options.figures_sum or tff.aggregators.SumFactory()
    return learning.build_work(model, options, client_update, distribution, total, learn, figures="choices")


FED_EX = Algorithm(
    name="fed_ex",
    title="FedEx",
    paper="https://arxiv.org/abs/2106.04502",
    build=build_fed_ex,
    capabilities=capabilities.ALL
    - {
        capabilities.CENTRAL_DP,
        capabilities.EXAMPLE_DP,
        capabilities.LORA_PRODUCTS,
        capabilities.ONE_UPDATE,
        capabilities.PERSONAL_WEIGHTS,
    },
)
