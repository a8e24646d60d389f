"""FedNova (Wang et al. 2020)."""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.client.work import weights_type
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of FedNova: its update by the length a_k of its path, and a_k.

    w <- w_t; for each of tau_k batches b: w <- w - eta grad l(w; b); send (w_t - w) / a_k and a_k. a_k, the paper's
    eta |a_k|_1, is how far the same optimizer, with the same terms, moves a number whose gradient is 1: eta tau_k for
    SGD, with momentum and the proximal term the paper's sums of their coefficients.
    """
    optimizer = one.options.client_optimizer_fn(rate)
    origin = (tf.constant(0.0),)
    context = one.context._replace(server=origin)

    def step(learned, gradients, examples):
        del examples
        trained, state, number, number_state = learned
        slope = (tf.constant(1.0),)
        for transform in one.options.transforms:
            slope = transform.direction(context, number, slope)
        state, trained = optimizer.next(state, trained, gradients)
        number_state, number = optimizer.next(number_state, number, slope)
        return trained, state, number, number_state

    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server)
    start = one.server, optimizer.initialize(specs), origin, optimizer.initialize((tf.TensorSpec([], tf.float32),))
    (trained, _, (number,), _), seen = one.train(batches, start, step)
    update = tf.nest.map_structure(
        lambda w0, w: tf.math.divide_no_nan(w0 - w, tf.cast(-number, w.dtype)), one.server, trained
    )
    sent, *others = one.result(update, seen)
    weight = collections.OrderedDict(weight=sent.update_weight, path=-number)
    return tff.learning.templates.ClientResult(update=sent.update, update_weight=weight), *others


def build_fed_nova(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedNova: however many steps a client takes, it counts for the objective by its weight alone.

    https://arxiv.org/abs/2007.07481, equation 7 and Algorithm 1: with the clients' weights p_k,
    w_{t+1} = ServerOpt(w_t, tau_eff sum of p_k (w_t - w_k) / a_k), tau_eff = sum of p_k a_k. With equal paths a_k it is
    FedAvg. `options.aggregator` aggregates (w_t - w_k) / a_k; a_k are averaged in the clear.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_NOVA, options, model)
    work = client.build_client_work(model, options, client_update)
    return client.compose(model, options, work, _server_update(model, options), _aggregator(model, options))


def _aggregator(model, options):
    """(updates, weights with paths) -> OrderedDict(update, path), means over clients."""
    trainable, scalar = weights_type(model).trainable, tff.TensorType(np.float32)
    mean = options.weighted_aggregator.create(trainable, scalar)
    paths = tff.aggregators.MeanFactory().create(scalar, scalar)

    @tff.federated_computation
    def initialize():
        return tff.federated_zip((mean.initialize(), paths.initialize()))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(trainable, tff.CLIENTS),
        tff.FederatedType(collections.OrderedDict(weight=scalar, path=scalar), tff.CLIENTS),
    )
    def next_fn(state, updates, weights):
        update = mean.next(state[0], updates, weights.weight)
        path = paths.next(state[1], weights.path, weights.weight)
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((update.state, path.state)),
            tff.federated_zip(collections.OrderedDict(update=update.result, path=path.result)),
            update.measurements,
        )

    return tff.templates.AggregationProcess(initialize, next_fn)


def _server_update(model, options):
    """The server's step along the mean update times the mean path."""
    step, weights = client.build_server_update(model, options), weights_type(model)
    means = tff.to_type(collections.OrderedDict(update=weights.trainable, path=np.float32))

    @tff.tensorflow.computation(means)
    def rescale(means):
        return tf.nest.map_structure(lambda u: u * tf.cast(means["path"], u.dtype), means["update"])

    @tff.federated_computation(
        step.initialize.type_signature.result,
        tff.FederatedType(weights, tff.SERVER),
        tff.FederatedType(means, tff.SERVER),
    )
    def next_fn(state, weights, means):
        return step.next(state, weights, tff.federated_map(rescale, means))

    return tff.learning.templates.FinalizerProcess(step.initialize, next_fn)


FED_NOVA = Algorithm(
    name="fed_nova",
    title="FedNova",
    paper="https://arxiv.org/abs/2007.07481",
    build=build_fed_nova,
    capabilities=capabilities.ALL
    - {
        capabilities.SENDS_LOSS,
        capabilities.SENDS_MODEL,
        capabilities.CENTRAL_DP,
        capabilities.LORA_PRODUCTS,
    },
)
