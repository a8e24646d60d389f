"""FedBABU (Oh et al. 2022)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of FedBABU, with a head h_0 that all begin with and a shared body phi.

    For each batch b: phi <- phi - eta grad_phi l(h_0, phi; b); send phi_t - phi. h_0 stays as it is.
    """
    weights, seen = client.train_part(one, one.server, batches, rate, client.shared_part(one))
    return one.result(tf.nest.map_structure(tf.subtract, one.server, weights), seen)[:2]


def build_fed_babu(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedBABU: the body is trained federatedly below a head that nobody trains.

    https://arxiv.org/abs/2106.06042, Algorithm 1. Clients have no state. A client's own model is made when it is
    needed, by `options.personal_epochs` passes that train head and body on its records. A model without personal
    weights is trained by FedAvg.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_BABU, options, model)
    if not client.num_personal(model):
        return build_fed_avg(model, options)
    return client.compose(model, options, client_work=client.build_client_work(model, options, client_update))


FED_BABU = Algorithm(
    name="fed_babu",
    title="FedBABU",
    paper="https://arxiv.org/abs/2106.06042",
    build=build_fed_babu,
    capabilities=capabilities.ALL,
    own_model="tuned",
)
