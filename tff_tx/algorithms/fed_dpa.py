"""FedDPA (Yang et al. 2024), dual personalizing adapters: one that all share, and one of each client's own."""

from __future__ import annotations

import dataclasses

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import models
from tff_tx.algorithms import capabilities, client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.ditto import first_state, own_weights
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.options import Options
from tff_tx.core.errors import UserError, setting


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of FedDPA-T, with an adapter v_k of its own beside the shared one w_t, on frozen weights W.

    tau times, for each batch b: v_k <- v_k - eta grad_v l(W + (1 - alpha) w_t + alpha v_k; b), w_t being frozen;
    w <- w_t; for each batch b: w <- w - eta grad_w l(W + w; b); keep v_k, send w_t - w.
    """
    dual = models.DualAdapters(one.context.model, one.options.mixing)
    context = one.context._replace(model=dual, frozen=(*one.context.frozen, *one.server))
    beside = dataclasses.replace(one, context=context)
    own, _ = client.train_part(beside, one.state, batches.repeat(one.options.personal_epochs), rate)
    weights, seen = client.train_part(one, one.server, batches, rate)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, weights), seen, state=own)


def build_fed_dpa_t(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedDPA-T: in each round a client trains its own adapter beside the shared one, then the shared one alone.

    https://arxiv.org/abs/2403.19211; alpha is `options.mixing`, 0.5 there, and tau
    `options.personal_epochs`. A client's own adapter begins as the shared one of its first round, and never leaves it;
    the shared adapters are FedAvg's. With alpha 0 a client has FedAvg's model, with 1 one that it trains alone.

    Raises:
      UserError: If options do not fit together, or the model has no adapters.
    """
    check(FED_DPA_T, options, model)
    _require_adapters(model, FED_DPA_T)
    work = client.build_client_work(model, options, client_update, client_state=first_state)
    return client.compose(model, options, client_work=work)


def build_fed_dpa_f(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedDPA-F: FedAvg of the shared adapters, beside which clients train their own ones afterwards.

    https://arxiv.org/abs/2403.19211. Clients have no state: a client's own adapter is made when it is
    needed, by `options.personal_epochs` passes over its records that begin with the shared one and train, as in
    FedDPA-T, v_k in W + (1 - alpha) w + alpha v_k.

    Raises:
      UserError: If options do not fit together, or the model has no adapters.
    """
    check(FED_DPA_F, options, model)
    _require_adapters(model, FED_DPA_F)
    return build_fed_avg(model, options)


def _require_adapters(model, algorithm):
    if getattr(model, "lora", None) is None:
        raise UserError(
            f"{algorithm.title} adds adapters of clients' own to those that all share, and the model has none: set "
            f"{setting('model.trainable')}=lora."
        )


FED_DPA_T = Algorithm(
    name="fed_dpa_t",
    title="FedDPA-T",
    paper="https://arxiv.org/abs/2403.19211",
    build=build_fed_dpa_t,
    capabilities=capabilities.BESIDE,
    own_weights=own_weights,
    adds_adapters=True,
)

FED_DPA_F = Algorithm(
    name="fed_dpa_f",
    title="FedDPA-F",
    paper="https://arxiv.org/abs/2403.19211",
    build=build_fed_dpa_f,
    capabilities=capabilities.BESIDE,
    own_model="tuned",
    own_weights=own_weights,
    adds_adapters=True,
)
