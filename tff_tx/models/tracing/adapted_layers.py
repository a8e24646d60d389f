"""Dense layers that add a product of low rank while a model is traced, whatever library they are of."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras
import transformers

from tff_tx.core import internals

CONV1D = transformers.modeling_tf_utils.TFConv1D
"""The dense layer of GPT-2 and its kin, whose weight is [in, out] in PyTorch too."""

_DENSE = {tf_keras.layers.Dense.call: "kernel", tf.keras.layers.Dense.call: "kernel", CONV1D.call: "weight"}
"""The method of a layer that multiplies its input by one weight matrix, and that weight's name."""


def dense_layers(model: Any) -> dict[int, Any]:
    """The dense layer of each weight, by the variable's id, for weights that one layer alone holds."""
    found = collections.defaultdict(list)
    for layer in (model, *model.submodules):
        name = _DENSE.get(getattr(type(layer), "call", None))
        if name is not None:
            found[id(getattr(layer, name, None))].append(layer)
    return {variable: layers[0] for variable, layers in found.items() if len(layers) == 1}


def adapted(layers: Sequence[tuple[Any, tf.Tensor, tf.Tensor]], scale: float, dropout: float):
    """Has dense layers compute activation(x W + b + s (x A) B) for the length of a block.

    Args:
      layers: (layer, A, B) of each.
      scale: s.
      dropout: Rate at which inputs are dropped on their way through A and B; 0: none.
    """
    swaps = []
    for layer, a, b in layers:
        attributes = vars(layer)
        outer, activation = attributes.get("call"), attributes.get("activation")
        # A layer that is adapted already has its activation in its `call`.
        call = _call(layer, getattr(outer, "activation", activation), a, b, scale, dropout)
        swaps.append((layer, "call", call))
        if "activation" in attributes:
            swaps.append((layer, "activation", None))
    return internals.swapped(*swaps)


def _call(layer, activation, a, b, scale, dropout):
    dense = type(layer).call

    @tf.autograph.experimental.do_not_convert
    def call(inputs):
        outputs = dense(layer, inputs)
        # As one matrix: a product over more dimensions would form a gradient of A for each example.
        x = tf.reshape(inputs, [-1, a.shape[0]])
        if dropout:
            x = tf.nn.dropout(x, dropout)
        low_rank = tf.matmul(scale * tf.matmul(x, a), b)
        outputs += tf.reshape(low_rank, tf.shape(outputs))
        return outputs if activation is None else activation(outputs)

    call.activation = activation
    return call
