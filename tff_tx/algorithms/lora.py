"""Federated averaging of low-rank adapters: the mean of products A_k B_k is not the product of the means.

With W + R + s A B as the weight and clients that send A_k and B_k, the weight that centralized averaging would give is
W + R + s mean(A_k B_k). Averaging A and B misses it; the other ways here meet it, or its best approximation.
"""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import all_finite
from tff_tx.algorithms import client
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.capabilities import LORA_PRODUCTS
from tff_tx.algorithms.client import work
from tff_tx.algorithms.fed_avg import FED_AVG, client_update
from tff_tx.algorithms.options import Options
from tff_tx.config.task import LORA_AGGREGATIONS
from tff_tx.core.errors import UserError, setting
from tff_tx.models import RANK, TransformerModel

_templates = tff.learning.templates


def build_lora_fed_avg(
    model: TransformerModel, options: Options, aggregation: str = "average"
) -> _templates.LearningProcess:
    """Builds federated averaging of a model with adapters.

    The head, if there is one, is averaged, and `options` means what it means to FedAvg. `aggregation` is

    - "average": A' = mean A_k, B' = mean B_k, as FedIT (Zhang et al. 2024, https://arxiv.org/abs/2305.05644); with
      `Lora.freeze_a` FFA-LoRA, where that is exact. If clients have different ranks, HetLoRA (Cho et al. 2024,
      https://arxiv.org/abs/2401.06432, section 3.3): factors are padded with zeros, and a client counts by the
      Frobenius norm of its A_k B_k over all adapted weights. Its pruning of ranks is left out.
    - "residual": as "average", and R' = R + s (mean(A_k B_k) - A' B'): FedEx-LoRA (Singhal et al. 2025,
      https://arxiv.org/abs/2410.09432, equation 7). Exact.
    - "stack": R' = R + s mean(A_k B_k), and A and B begin anew: FLoRA (Wang et al. 2024,
      https://arxiv.org/abs/2409.05976, section 3.2), whose stacked factors have that mean as their product. Exact.
    - "svd": A' B' is the truncated singular value decomposition of mean(A_k B_k): FlexLoRA (Bai et al. 2024,
      https://arxiv.org/abs/2402.11505, section 3). The best of its rank; a client of a smaller rank gets the largest
      singular values.

    In all of them a client of rank r_k < r trains the first r_k columns of A and rows of B. The server forms the
    products as contributions come in, so clients send factors only; R is broadcast as a matrix.

    Args:
      model: With `lora`.
      options: Of FedAvg; but for "average" without an aggregator.
      aggregation: One of `LORA_AGGREGATIONS`.

    Raises:
      UserError: If the model has no adapters or none as `aggregation` needs them, or an aggregator is set that it does
        not go with.
    """
    check(FED_AVG, options, model)
    _check(model, options, aggregation)
    weights_type = work.weights_type(model)
    client_work = client.build_client_work(model, options, client_update)
    if len(set(model.lora.ranks)) > 1:
        client_work = _with_ranks(client_work, model, weights_type, by_norm=aggregation == "average")
    finalizer = client.build_server_update(model, options)
    if aggregation == "average":
        return client.compose(model, options, client_work, finalizer)
    aggregator = _build_products_aggregator(model, weights_type.trainable)
    finalizer = _build_finalizer(model, weights_type, aggregation, finalizer, aggregator)
    return client.compose(model, options, client_work, finalizer, aggregator)


def build_process(
    algorithm: Algorithm, model: TransformerModel, options: Options, lora_aggregation: str = "average"
) -> _templates.LearningProcess:
    """Builds an algorithm's process, that of adapters where these need one of their own.

    Args:
      algorithm: The algorithm, with `LORA_PRODUCTS` if adapters are not averaged like other weights.
      model: The model.
      options: The algorithm's parts.
      lora_aggregation: One of `LORA_AGGREGATIONS`; "average" for a model without adapters.

    Raises:
      UserError: If the parts do not fit together.
    """
    check(algorithm, options, model)
    lora = getattr(model, "lora", None)
    if lora_aggregation == "average" and (lora is None or len(set(lora.ranks)) == 1):
        return algorithm.build(model, options)
    algorithm.require(LORA_PRODUCTS, f"aggregating adapters of several ranks or by {lora_aggregation!r}")
    return build_lora_fed_avg(model, options, lora_aggregation)


def _check(model, options, aggregation):
    chosen = f"{setting('lora.aggregation')}={aggregation}"
    if aggregation not in LORA_AGGREGATIONS:
        raise UserError(f"{chosen}: must be one of {', '.join(LORA_AGGREGATIONS)}.")
    if model.lora is None:
        raise UserError(f"{chosen} needs adapters, and the model has none: set {setting('model.trainable')}=lora.")
    if options.sends_loss and len(set(model.lora.ranks)) > 1:
        raise UserError(
            f"clients of different ranks ({setting('lora.rank')}) are weighted by the norm of what they learned, not "
            f"by their loss ({setting('aggregation.attention_key')}=loss): remove one of them."
        )
    if options.transforms.broadcasts(work.weights_type(model)):
        raise UserError(
            f"{setting('algorithm.distillation_models')} above 1 averages factors of several rounds, whose product is "
            f"no average with {chosen} or several of {setting('lora.rank')}: remove it, and the teacher is the model "
            "that clients get."
        )
    if aggregation == "average":
        return
    if options.aggregator is not None:
        raise UserError(
            f"{chosen} adds up products of clients' factors, to which no other aggregator applies: use average, or "
            "remove the aggregator."
        )
    if model.lora.freeze_a:
        raise UserError(
            f"{chosen} has no effect with {setting('lora.freeze_a')}, whose average is exact: remove one of them."
        )
    if (aggregation in ("residual", "stack")) != model.lora.residual:
        raise UserError(
            f"{chosen} needs a model {'without' if model.lora.residual else 'with'} Lora.residual: build one."
        )


def _with_ranks(client_work, model, weights_type, by_norm):
    """Clients that get and send the part of A and B that is of their rank, the rest zero.

    Where columns of A and the same rows of B are zero, so are their gradients: whatever the optimizer, they stay.
    """
    state_type, _, data_type = (t for _, t in tff.structure.iter_elements(client_work.next.type_signature.parameter))
    result_type = client_work.next.type_signature.result.result.member
    positions, largest = model.adapter_positions, model.lora.rank

    @tff.tensorflow.computation(weights_type, data_type.member)
    def truncate(weights, batches):
        rank = batches.take(1).reduce(tf.constant(largest), lambda _, batch: batch[0][RANK])
        has = tf.cast(tf.range(largest) < rank, tf.float32)
        trainable = list(weights.trainable)
        for at in positions:
            trainable[at.a] *= has
            trainable[at.b] *= has[:, tf.newaxis]
        return tff.learning.models.ModelWeights(tuple(trainable), weights.non_trainable)

    @tff.tensorflow.computation(weights_type.trainable, weights_type.trainable, result_type)
    def pad(server, start, result):
        trained = [w - u for w, u in zip(start, result.update)]
        update = tuple(w - t for w, t in zip(server, trained))
        weight = result.update_weight
        if by_norm:
            weight = tf.where(weight > 0, _norm([(trained[at.a], trained[at.b]) for at in positions]), 0.0)
        return _templates.ClientResult(update, weight)

    @tff.federated_computation(state_type, tff.FederatedType(weights_type, tff.CLIENTS), data_type)
    def next_fn(state, weights, batches):
        start = tff.federated_map(truncate, (weights, batches))
        output = client_work.next(state, start, batches)
        result = tff.federated_map(pad, (weights.trainable, start.trainable, output.result))
        return tff.templates.MeasuredProcessOutput(output.state, result, output.measurements)

    return _templates.ClientWorkProcess(client_work.initialize, next_fn)


def _norm(factors):
    """The Frobenius norm of all A B together, without forming one: |A B|^2 = tr(A^T A B B^T)."""
    squares = [tf.reduce_sum(tf.matmul(a, a, transpose_a=True) * tf.matmul(b, b, transpose_b=True)) for a, b in factors]
    return tf.sqrt(tf.add_n(squares))


def _build_products_aggregator(model, update_type) -> tff.templates.AggregationProcess:
    """(update, weight) at clients -> the weighted means of updates and of products of the updates of A and B."""
    positions = model.adapter_positions
    specs = [tf.TensorSpec(t.shape, t.dtype) for _, t in tff.structure.iter_elements(update_type)]

    @tff.tensorflow.computation
    def zero():
        return collections.OrderedDict(
            update=tuple(tf.zeros(s.shape, s.dtype) for s in specs),
            products=tuple(tf.zeros([specs[at.a].shape[0], specs[at.b].shape[1]]) for at in positions),
            weight=tf.constant(0.0),
        )

    sums_type = zero.type_signature.result
    value_type = tff.types.to_type((update_type, np.float32))

    @tff.tensorflow.computation(sums_type, value_type)
    def accumulate(sums, value):
        update, weight = value
        products = [tf.matmul(weight * update[at.a], update[at.b]) for at in positions]
        return collections.OrderedDict(
            update=tuple(s + weight * u for s, u in zip(sums["update"], update)),
            products=tuple(s + p for s, p in zip(sums["products"], products)),
            weight=sums["weight"] + weight,
        )

    @tff.tensorflow.computation(sums_type, sums_type)
    def merge(first, second):
        return tf.nest.map_structure(tf.add, first, second)

    @tff.tensorflow.computation(sums_type)
    def report(sums):
        weight = sums["weight"]
        return collections.OrderedDict(
            mean_update=tuple(tf.math.divide_no_nan(s, weight) for s in sums["update"]),
            mean_products=tuple(tf.math.divide_no_nan(s, weight) for s in sums["products"]),
        )

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(update_type, tff.CLIENTS),
        tff.FederatedType(np.float32, tff.CLIENTS),
    )
    def next_fn(state, updates, weights):
        values = tff.federated_zip((updates, weights))
        means = tff.federated_aggregate(values, zero(), accumulate, merge, report)
        return tff.templates.MeasuredProcessOutput(state, means, tff.federated_value((), tff.SERVER))

    return tff.templates.AggregationProcess(initialize, next_fn)


def _build_finalizer(model, weights_type, aggregation, averaging, aggregator):
    """The server's step: that of `averaging` for all weights, then what `aggregation` makes of the adapters'."""
    positions, lora = model.adapter_positions, model.lora
    means_type = aggregator.next.type_signature.result.result.member

    @tff.federated_computation
    def initialize():
        return tff.federated_zip((averaging.initialize(), tff.federated_value(0, tff.SERVER)))

    @tff.tensorflow.computation(np.int32)
    def add_one(round_num):
        return round_num + 1

    @tff.tensorflow.computation(weights_type, weights_type, means_type, np.int32)
    def adapt(before, after, means, round_num):
        is_finite = all_finite(means)
        trainable, non_trainable = list(after.trainable), list(after.non_trainable)
        for i, (at, product) in enumerate(zip(positions, means["mean_products"])):
            mean = _mean_product(before.trainable, means["mean_update"], at, product)
            if aggregation == "residual":
                residual = mean - tf.matmul(trainable[at.a], trainable[at.b])
            elif aggregation == "stack":
                residual, bound = mean, float(mean.shape[0]) ** -0.5
                seed = tf.stack([lora.seed, round_num * len(positions) + i])
                a = tf.random.stateless_uniform(trainable[at.a].shape, seed, -bound, bound, alg="philox")
                new = a, tf.zeros_like(trainable[at.b])
            else:
                s, u, v = tf.linalg.svd(mean)
                new = u[:, : lora.rank], s[: lora.rank, tf.newaxis] * tf.transpose(v[:, : lora.rank])
            if aggregation != "svd":
                old = non_trainable[at.residual]
                non_trainable[at.residual] = tf.where(is_finite, old + lora.scale * residual, old)
            if aggregation != "residual":
                for position, value in zip((at.a, at.b), new):
                    trainable[position] = tf.where(is_finite, value, before.trainable[position])
        return tff.learning.models.ModelWeights(tuple(trainable), tuple(non_trainable))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(means_type, tff.SERVER),
    )
    def next_fn(state, weights, means):
        step = averaging.next(state[0], weights, means.mean_update)
        result = tff.federated_map(adapt, (weights, step.result, means, state[1]))
        new_state = tff.federated_zip((step.state, tff.federated_map(add_one, state[1])))
        return tff.templates.MeasuredProcessOutput(new_state, result, step.measurements)

    return _templates.FinalizerProcess(initialize, next_fn)


def _mean_product(server, update, at, mean_of_products):
    """mean(A_k B_k) of A_k = A - a_k and B_k = B - b_k, from the means of a_k, b_k and a_k b_k."""
    a, b = server[at.a], server[at.b]
    return tf.matmul(a - update[at.a], b) - tf.matmul(a, update[at.b]) + mean_of_products
