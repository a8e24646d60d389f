"""Mime Lite (Karimireddy et al. 2021)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms.options import REDUCE, Options


def build_mime_lite(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds Mime Lite: clients use the server's optimizer state unchanged, the server updates it with full gradients.

    https://arxiv.org/abs/2008.03606, Algorithm 1 (MimeLite); the base optimizer is `options.client_optimizer_fn`'s.
    Clients send the gradient at the server's weights besides their update: twice the upload of FedAvg.
    """
    options.check_usual_client_work("mime_lite")
    if options.client_schedule is not None:
        return tff.learning.algorithms.build_mime_lite_with_optimizer_schedule(
            model,
            options.client_schedule,
            options.client_optimizer_fn(options.client_learning_rate),
            options.server_optimizer,
            client_weighting=options.client_weighting,
            model_distributor=options.distributor(model),
            model_aggregator=options.weighted_aggregator,
            loop_implementation=REDUCE,
        )
    return tff.learning.algorithms.build_weighted_mime_lite(
        model,
        options.client_optimizer,
        options.server_optimizer,
        client_weighting=options.client_weighting,
        model_distributor=options.distributor(model),
        model_aggregator=options.weighted_aggregator,
        loop_implementation=REDUCE,
    )
