"""FedRecon (Singhal et al. 2021)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.client.accumulation import in_parts
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of FedRecon, with local weights l that it rebuilds and shared ones g.

    Half of each batch is support, half query. l <- l_0; tau times, for each support batch b:
    l <- l - eta grad_l l(g_t, l; b); then, for each query batch b: g <- g - eta grad_g l(g, l; b); send g_t - g, of
    the weight of the query examples. l is forgotten.
    """
    halves = in_parts(batches, 2)
    support, query = (_only(halves, is_last) for is_last in (False, True))
    support = support.repeat(one.options.personal_epochs)
    weights, _ = client.train_part(one, one.server, support, rate, client.personal_part(one))
    weights, seen = client.train_part(one, weights, query, rate, client.shared_part(one))
    return one.result(tf.nest.map_structure(tf.subtract, one.server, weights), seen)[:2]


def _only(halves, is_last):
    return halves.filter(lambda x, y, last: tf.equal(last, is_last)).map(lambda x, y, last: (x, y))


def build_fed_recon(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedRecon: clients rebuild their personal weights from nothing each round, and have no state.

    https://arxiv.org/abs/2102.03448, Algorithm 1. tau is `options.personal_epochs`, passes over the support examples. A
    client's own model is made in the same way when it is needed, of all of its records. A model without personal
    weights is trained by FedAvg.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_RECON, options, model)
    if not client.num_personal(model):
        return build_fed_avg(model, options)
    return client.compose(model, options, client_work=client.build_client_work(model, options, client_update))


FED_RECON = Algorithm(
    name="fed_recon",
    title="FedRecon",
    paper="https://arxiv.org/abs/2102.03448",
    build=build_fed_recon,
    capabilities=capabilities.ALL - {capabilities.EXAMPLE_DP},
    own_model="rebuilt",
)
