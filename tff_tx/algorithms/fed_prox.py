"""FedProx (Li et al. 2020)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import ITERATOR, Options
from tff_tx.algorithms.scheduled import build_scheduled_process


def build_fed_prox(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedProx: FedAvg whose clients also minimize mu/2 |w - w_t|^2, the distance to the server's model.

    https://arxiv.org/abs/1812.06127, Algorithm 2; mu is `options.proximal_strength`, and 0 gives FedAvg.
    """
    if options.proximal_strength == 0:
        return build_fed_avg(model, options)
    if options.client_schedule is not None:
        return build_scheduled_process(model, options)
    build = (
        tff.learning.algorithms.build_weighted_fed_prox
        if options.weighted
        else tff.learning.algorithms.build_unweighted_fed_prox
    )
    return build(
        model,
        options.proximal_strength,
        options.client_optimizer,
        options.server_optimizer,
        model_aggregator=options.aggregator,
        loop_implementation=ITERATOR,
    )
