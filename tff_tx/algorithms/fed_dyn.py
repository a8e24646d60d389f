"""FedDyn (Acar et al. 2021)."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import all_finite
from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.client.work import weights_type
from tff_tx.algorithms.options import Options
from tff_tx.core.errors import UserError, setting


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of FedDyn, with the gradient g_k of its last round, 0 at first.

    w <- w_t; for each batch b: w <- w - eta (grad l(w; b) - g_k + alpha (w - w_t)); g_k <- g_k - alpha (w - w_t); send
    w_t - w. The term with alpha is that of FedProx.
    """
    optimizer, shared = one.options.client_optimizer_fn(rate), one.num_shared

    def step(learned, gradients, examples):
        del examples
        trained, state = learned
        gradients = client.dense(gradients, trained)
        corrected = tf.nest.map_structure(tf.subtract, gradients[:shared], one.state)
        state, trained = optimizer.next(state, trained, (*corrected, *gradients[shared:]))
        return trained, state

    start = one.server, optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server))
    (trained, _), seen = one.train(batches, start, step)
    update = tf.nest.map_structure(tf.subtract, one.server, trained)
    strength = one.options.dynamic_strength
    after = tf.nest.map_structure(lambda g, u: g + strength * u, one.state, update[:shared])
    return one.result(update, seen, after)


def build_fed_dyn(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedDyn: clients' losses are regularized so that their minima agree with that of the mean loss.

    https://arxiv.org/abs/2111.04263, Algorithm 1, with m clients, of which P take part in a round:
    h <- h - alpha/m sum of (w_k - w_t); w_{t+1} = mean of w_k - h/alpha. It is computed as a server's step,
    w_{t+1} = ServerOpt(w_t, u + s), along the mean u of the updates w_t - w_k and s = h/alpha, s <- s + P/m u: so with
    SGD of rate 1 it is the paper's. P are the clients whose updates u is the mean of, which are counted, as dropouts
    and Poisson sampling make them fewer or more; of an aggregate with a fixed denominator P is that,
    `options.clients_per_round`. m is `options.num_clients`. Clients send one update, as in FedAvg, and retain g_k. s
    does not depend on alpha and does not vanish with it: alpha = 0, which the paper's h/alpha excludes, has s = 0 here,
    and is FedAvg.

    Raises:
      UserError: If options do not fit together, clients are counted by their examples, or P or m is not known.
    """
    check(FED_DYN, options, model)
    if options.num_clients is None or options.clients_per_round is None:
        needed = f"{setting('data.num_clients')} and {setting('cohort.clients_per_round')}"
        raise UserError(f"FedDyn needs the number of clients, in all and in a round: set {needed}.")
    transforms = (*options.transforms, client.proximal(options.dynamic_strength))
    options = dataclasses.replace(options, transforms=transforms)
    work = client.build_client_work(model, options, client_update, client_state=lambda one: client.zeros(model))
    return client.compose(model, options, work, _server_update(model, options), _aggregator(options, work))


def _aggregator(options, work):
    """(updates, weights) -> OrderedDict(update, clients): the aggregate, and P."""
    sent = work.next.type_signature.result.result.member
    inner = options.weighted_aggregator.create(sent.update, sent.update_weight)
    count = (options.figures_sum or tff.aggregators.SumFactory()).create(tff.TensorType(np.float32))

    @tff.tensorflow.computation(sent.update_weight)
    def one(weight):
        weight = weight["weight"] if isinstance(weight, Mapping) else weight
        return tf.cast(weight > 0, tf.float32)

    @tff.federated_computation
    def initialize():
        return tff.federated_zip((inner.initialize(), count.initialize()))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(sent.update, tff.CLIENTS),
        tff.FederatedType(sent.update_weight, tff.CLIENTS),
    )
    def next_fn(state, updates, weights):
        output = inner.next(state[0], updates, weights)
        if options.fixed_denominator:
            after, clients = state[1], tff.federated_value(np.float32(options.clients_per_round), tff.SERVER)
        else:
            counted = count.next(state[1], tff.federated_map(one, weights))
            after, clients = counted.state, counted.result
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((output.state, after)),
            tff.federated_zip(collections.OrderedDict(update=output.result, clients=clients)),
            output.measurements,
        )

    return tff.templates.AggregationProcess(initialize, next_fn)


def _server_update(model, options):
    """w_{t+1} = ServerOpt(w_t, u + s), s <- s + P/m u."""
    step, weights = client.build_server_update(model, options), weights_type(model)
    found_type = tff.to_type(collections.OrderedDict(update=weights.trainable, clients=np.float32))

    @tff.tensorflow.computation
    def zeros():
        return client.zeros(model)

    @tff.tensorflow.computation(weights.trainable, found_type)
    def add(past, found):
        update, share = found["update"], tf.minimum(1.0, found["clients"] / options.num_clients)
        share = share if options.dynamic_strength else 0.0
        # Of a mean that is not finite, which the server leaves out, nothing is remembered.
        finite = all_finite(update)
        after = tf.nest.map_structure(lambda s, u: tf.where(finite, s + share * u, s), past, update)
        return after, tf.nest.map_structure(tf.add, after, update)

    @tff.federated_computation
    def initialize():
        return tff.federated_zip((tff.federated_eval(zeros, tff.SERVER), step.initialize()))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights, tff.SERVER),
        tff.FederatedType(found_type, tff.SERVER),
    )
    def next_fn(state, weights, found):
        past, direction = tff.federated_map(add, (state[0], found))
        output = step.next(state[1], weights, direction)
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((past, output.state)), output.result, output.measurements
        )

    return tff.learning.templates.FinalizerProcess(initialize, next_fn)


FED_DYN = Algorithm(
    name="fed_dyn",
    title="FedDyn",
    paper="https://arxiv.org/abs/2111.04263",
    build=build_fed_dyn,
    capabilities=capabilities.ALL - {capabilities.EXAMPLE_WEIGHTING, capabilities.LORA_PRODUCTS},
    client_state=True,
)
