"""Ditto (Li et al. 2021)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options


def first_state(one: client.Client) -> tuple:
    """v_k before the client's first round: the server's weights."""
    return one.server


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of Ditto, with a model v_k of its own beside the global one.

    w <- w_t; for each batch b: w <- w - eta grad l(w; b); for each batch b:
    v_k <- v_k - eta (grad l(v_k; b) + lambda (v_k - w_t)); keep v_k, send w_t - w.
    """
    weights, seen = client.train_part(one, one.server, batches, rate)
    own, _ = client.train_part(one, one.state, batches, rate, strength=one.options.personal_strength)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, weights), seen, state=own)


def build_ditto(model: tff.learning.models.FunctionalModel, options: Options) -> tff.learning.templates.LearningProcess:
    """Builds Ditto: FedAvg, and beside it a model of each client's own that is pulled towards the global one.

    https://arxiv.org/abs/2012.04221, Algorithm 1; lambda is `options.personal_strength`. With 0 a client's own model is
    trained on its data alone; the larger it is, the closer is that model to FedAvg's, which does not depend on it.

    Raises:
      UserError: If options do not fit together.
    """
    check(DITTO, options, model)
    work = client.build_client_work(model, options, client_update, client_state=first_state)
    return client.compose(model, options, client_work=work)


def own_weights(shared: tuple, state: tuple) -> tuple:
    """A client's own trainable weights."""
    del shared
    return state


DITTO = Algorithm(
    name="ditto",
    title="Ditto",
    paper="https://arxiv.org/abs/2012.04221",
    build=build_ditto,
    capabilities=capabilities.BESIDE,
    own_weights=own_weights,
)
