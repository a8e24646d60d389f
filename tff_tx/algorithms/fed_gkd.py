"""FedGKD (Yao et al. 2021)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms import capabilities
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


def build_fed_gkd(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedGKD: FedAvg whose clients learn from the server's last models while they train.

    https://arxiv.org/abs/2107.00051, Algorithm 1: the server sends w_t and the average w_bar of its last M models;
    client k takes steps w <- w - eta grad [l(w; b) + gamma/2 KL(p(w_bar) || p(w))] for each batch b; the server
    averages. gamma and M are those of `distill` in `options.transforms`; without it, or with 0, this is FedAvg.
    """
    check(FED_GKD, options, model)
    return build_fed_avg(model, options)


FED_GKD = Algorithm(
    name="fed_gkd",
    title="FedGKD",
    paper="https://arxiv.org/abs/2107.00051",
    build=build_fed_gkd,
    capabilities=capabilities.ALL,
)
