"""Federated averaging (McMahan et al. 2017) and its generalization FedOpt (Reddi et al. 2021)."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import REDUCE, Options


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """ClientUpdate(k, w_t) of McMahan et al., Algorithm 1, with any optimizer for SGD.

    w <- w_t; for each batch b: w <- w - eta grad l(w; b); send w_t - w, of weight n_k.
    """
    optimizer = one.options.client_optimizer_fn(rate)

    def step(learned, gradients, examples):
        del examples
        trained, state = learned
        state, trained = optimizer.next(state, trained, gradients)
        return trained, state

    start = one.server, optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, one.server))
    (trained, _), seen = one.train(batches, start, step)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, trained), seen)


def build_fed_avg(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedAvg: clients train locally, the server averages their updates and takes a step along the average.

    Each round t, of a cohort S_t: u_k = ClientUpdate(k, w_t) for k in S_t; w_{t+1} = ServerOpt(w_t, sum_k n_k/n u_k).
    With SGD of rate 1 on the server this is FedAvg, https://arxiv.org/abs/1602.05629 (Algorithm 1); with Adagrad, Adam
    or Yogi it is FedAdagrad, FedAdam or FedYogi, https://arxiv.org/abs/2003.00295 (Algorithm 2).

    Where clients do what TFF's do, this is TFF's process, which sends no learning rate along.

    Raises:
      UserError: If options do not fit together.
    """
    check(FED_AVG, options, model)
    if _has_own_client_work(model, options):
        return client.compose(
            model,
            options,
            client_work=client.build_client_work(model, options, client_update),
            server_update=client.build_server_update(model, options),
        )
    learning = tff.learning.algorithms
    more = {"model_distributor": options.distributor(model), "loop_implementation": REDUCE}
    optimizers = options.client_optimizer, options.server_optimizer
    if not options.weighted and not isinstance(options.aggregator, tff.aggregators.WeightedAggregationFactory):
        return learning.build_unweighted_fed_avg(model, *optimizers, model_aggregator=options.aggregator, **more)
    return learning.build_weighted_fed_avg(
        model,
        *optimizers,
        client_weighting=options.client_weighting,
        model_aggregator=options.weighted_aggregator,
        **more,
    )


def _has_own_client_work(model, options):
    parts = options.client_schedule, options.metrics_aggregator, options.figures_sum, options.wrap_client_work
    flags = options.transforms, options.sends_loss, client.num_personal(model)
    return any(flags) or any(part is not None for part in parts)


FED_AVG = Algorithm(
    name="fed_avg",
    title="FedAvg",
    paper="https://arxiv.org/abs/1602.05629",
    build=build_fed_avg,
    capabilities=capabilities.ALL,
)
