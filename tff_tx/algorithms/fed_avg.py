"""Federated averaging (McMahan et al. 2017) and its generalization FedOpt (Reddi et al. 2021)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms.local_training import build_local_training_process
from tff_tx.algorithms.options import REDUCE, Options


def build_fed_avg(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedAvg: clients train locally, the server averages their updates and takes a step along the average.

    With SGD of rate 1 on the server this is FedAvg, https://arxiv.org/abs/1602.05629 (Algorithm 1); with Adagrad, Adam
    or Yogi it is FedAdagrad, FedAdam or FedYogi, https://arxiv.org/abs/2003.00295 (Algorithm 2).
    """
    if options.has_own_local_training:
        return build_local_training_process(model, options)
    if not options.weighted and not isinstance(options.aggregator, tff.aggregators.WeightedAggregationFactory):
        return tff.learning.algorithms.build_unweighted_fed_avg(
            model,
            options.client_optimizer,
            options.server_optimizer,
            model_distributor=options.distributor(model),
            model_aggregator=options.aggregator,
            loop_implementation=REDUCE,
        )
    return tff.learning.algorithms.build_weighted_fed_avg(
        model,
        options.client_optimizer,
        options.server_optimizer,
        client_weighting=options.client_weighting,
        model_distributor=options.distributor(model),
        model_aggregator=options.weighted_aggregator,
        loop_implementation=REDUCE,
    )
