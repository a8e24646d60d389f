"""MR-MTL (Liu et al. 2022)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.ditto import first_state, own_weights
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of MR-MTL, with a model w_k of its own, of which the server has the mean w_t.

    For each batch b: w_k <- w_k - eta (grad l(w_k; b) + lambda (w_k - w_t)); keep w_k, send w_t - w_k.
    """
    own, seen = client.train_part(one, one.state, batches, rate, strength=one.options.personal_strength)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, own), seen, state=own)


def build_mr_mtl(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds mean-regularized multi-task learning: own models are pulled towards their mean.

    https://arxiv.org/abs/2206.07902, Algorithm A1; lambda is `options.personal_strength`. With 0 clients train alone;
    the larger it is, the closer are all models to one, as with FedAvg.

    Raises:
      UserError: If options do not fit together.
    """
    check(MR_MTL, options, model)
    work = client.build_client_work(model, options, client_update, client_state=first_state)
    return client.compose(model, options, client_work=work)


MR_MTL = Algorithm(
    name="mr_mtl",
    title="MR-MTL",
    paper="https://arxiv.org/abs/2206.07902",
    build=build_mr_mtl,
    capabilities=capabilities.BESIDE,
    own_weights=own_weights,
)
