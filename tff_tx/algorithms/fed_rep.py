"""FedRep (Collins et al. 2021)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of FedRep, with personal weights h_k (the head) and shared ones phi (the representation).

    tau times, for each batch b: h_k <- h_k - eta grad_h l(h_k, phi_t; b); then once, for each batch b:
    phi <- phi - eta grad_phi l(h_k, phi; b); keep h_k, send phi_t - phi.
    """
    head = batches.repeat(one.options.personal_epochs)
    weights, _ = client.train_part(one, one.server, head, rate, client.personal_part(one))
    weights, seen = client.train_part(one, weights, batches, rate, client.shared_part(one))
    return one.result(tf.nest.map_structure(tf.subtract, one.server, weights), seen)


def build_fed_rep(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedRep: clients first fit their personal weights to the shared ones, then the shared ones to these.

    https://arxiv.org/abs/2102.07078, Algorithm 1, with the mean weighted as in FedAvg: the server averages the shared
    weights alone. tau is `options.personal_epochs`, passes over the round's batches. With 0 it is FedAvg of the shared
    weights, and so it is of a model without personal weights.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_REP, options, model)
    if not client.num_personal(model):
        return build_fed_avg(model, options)
    return client.compose(model, options, client_work=client.build_client_work(model, options, client_update))


FED_REP = Algorithm(
    name="fed_rep",
    title="FedRep",
    paper="https://arxiv.org/abs/2102.07078",
    build=build_fed_rep,
    capabilities=capabilities.ALL - {capabilities.EXAMPLE_DP},
)
