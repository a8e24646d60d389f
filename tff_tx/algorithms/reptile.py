"""Reptile (Nichol, Achiam and Schulman 2018)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms import capabilities
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options


def build_reptile(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds Reptile: each client is a task, and the model becomes one from which few steps suffice for each.

    https://arxiv.org/abs/1803.02999, Algorithm 2: w_k = K steps of SGD or Adam on client k's loss from w_t;
    w_{t+1} = w_t + epsilon 1/n sum of (w_k - w_t). This is FedAvg with equal weights whose server takes SGD steps of
    the rate epsilon (Jiang et al. 2019, https://arxiv.org/abs/1909.12488); with K = 1 it is SGD on the mean loss.
    """
    check(REPTILE, options, model)
    return build_fed_avg(model, options)


REPTILE = Algorithm(
    name="reptile",
    title="Reptile",
    paper="https://arxiv.org/abs/1803.02999",
    build=build_reptile,
    capabilities=capabilities.ALL - {capabilities.EXAMPLE_WEIGHTING},
)
