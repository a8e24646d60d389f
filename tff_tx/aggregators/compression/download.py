"""Delta coding of the download: clients get a code of what has changed."""

from __future__ import annotations

import collections

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.compression.compressor import Compressor, fold_in

DELTA, HELD = "delta", "held"
"""Names in what is broadcast: the code, which travels, and what clients have already, which does not."""


def build_delta_distributor(
    initial_weights_fn, compressor: Compressor, seed: int = 0
) -> tff.learning.templates.DistributionProcess:
    """Builds the distributor of a process whose clients follow the model from code to code.

    In round t clients that have h_{t-1} are sent the code of w_t - h_{t-1}, and train from
    h_t = h_{t-1} + decode(encode(w_t - h_{t-1})); h_0 = w_0 is what all start with. Nothing of the model is ever lost:
    what a code left out is part of the next difference. (Tang et al. 2019, "DoubleSqueeze",
    https://arxiv.org/abs/1905.05957, does the same with an explicit residual.) The server's model, its optimizer and
    evaluation are those of w_t.

    A client that was not sampled for some rounds must catch up: it needs the codes of all rounds it has missed, or the
    model. `DownloadLedger` in `tff_tx.cohorts.log` counts that.

    Args:
      initial_weights_fn: Gives the `ModelWeights` that every client starts with.
      compressor: Makes the codes of the trainable weights; the others never change.
      seed: Decides what the compressor draws.

    Returns:
      <S@SERVER, ModelWeights@SERVER> -> ModelWeights@CLIENTS.
    """

    @tff.tensorflow.computation
    def initial():
        return collections.OrderedDict(round_num=tf.constant(0), held=initial_weights_fn().trainable)

    @tff.federated_computation
    def init_fn():
        return tff.federated_eval(initial, tff.SERVER)

    weights_type = tff.tensorflow.computation(initial_weights_fn).type_signature.result
    state_type = initial.type_signature.result
    broadcast_parts, at_client, next_state = _steps(state_type, weights_type, compressor, seed)

    @tff.federated_computation(init_fn.type_signature.result, tff.FederatedType(weights_type, tff.SERVER))
    def next_fn(state, model):
        parts = tff.federated_map(broadcast_parts, (state, model))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_map(next_state, (state, parts)),
            tff.federated_map(at_client, tff.federated_broadcast(parts)),
            tff.federated_value((), tff.SERVER),
        )

    return tff.learning.templates.DistributionProcess(init_fn, next_fn)


def _steps(state_type, weights_type, compressor, seed):
    """What is broadcast, what a client makes of it, and the server's next state."""
    structure = tff.types.type_to_tf_tensor_specs(state_type.held)
    specs = tf.nest.flatten(structure)

    @tff.tensorflow.computation(state_type, weights_type)
    def broadcast_parts(state, model):
        key = fold_in(tf.constant([seed, 1], tf.int64), state["round_num"])
        difference = [w - h for w, h in zip(tf.nest.flatten(model.trainable), tf.nest.flatten(state["held"]))]
        return collections.OrderedDict(
            [(HELD, (state["held"], model.non_trainable)), (DELTA, compressor.encode(difference, key))]
        )

    def caught_up(held, code):
        leaves = [h + d for h, d in zip(tf.nest.flatten(held), compressor.decode(code, specs))]
        return tf.nest.pack_sequence_as(structure, leaves)

    parts_type = broadcast_parts.type_signature.result

    @tff.tensorflow.computation(parts_type)
    def at_client(parts):
        held, non_trainable = parts[HELD]
        return tff.learning.models.ModelWeights(caught_up(held, parts[DELTA]), non_trainable)

    @tff.tensorflow.computation(state_type, parts_type)
    def next_state(state, parts):
        held = caught_up(state["held"], parts[DELTA])
        return collections.OrderedDict(round_num=state["round_num"] + 1, held=held)

    return broadcast_parts, at_client, next_state
