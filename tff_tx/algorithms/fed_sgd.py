"""Federated SGD (McMahan et al. 2017)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms.options import REDUCE, Options


def build_fed_sgd(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedSGD: clients send the mean gradient over their examples, the server takes one step along the mean.

    w' = w - alpha * sum_k n_k/n grad F_k(w), https://arxiv.org/abs/1602.05629, section 2; alpha is the rate of the
    server's optimizer. The clients' optimizer is not used.
    """
    options.check_usual_client_work("fed_sgd")
    return tff.learning.algorithms.build_fed_sgd(
        model,
        options.server_optimizer,
        model_distributor=options.distributor(model),
        model_aggregator=options.weighted_aggregator,
        loop_implementation=REDUCE,
    )
