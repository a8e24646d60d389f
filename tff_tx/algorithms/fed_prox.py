"""FedProx (Li et al. 2020)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms import capabilities
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


def build_fed_prox(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedProx: FedAvg whose clients stay close to the server's model w_t.

    https://arxiv.org/abs/1812.06127, Algorithm 2: client k finds a w that minimizes approximately
    h_k(w; w_t) = F_k(w) + mu/2 |w - w_t|^2, here by w <- w - eta (grad l(w; b) + mu (w - w_t)) for each batch b; the
    server averages. mu is that of `proximal` in `options.transforms`; without it, or with 0, this is FedAvg.
    """
    check(FED_PROX, options, model)
    return build_fed_avg(model, options)


FED_PROX = Algorithm(
    name="fed_prox",
    title="FedProx",
    paper="https://arxiv.org/abs/1812.06127",
    build=build_fed_prox,
    capabilities=capabilities.ALL,
)
