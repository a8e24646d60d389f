"""Packed examples: several in a row of a batch, of which none attends to another.

Krell et al. 2021, "Efficient sequence packing without cross-contamination", https://arxiv.org/abs/2107.02027, section
3.2. Positions count from 0 in each, which is also where it begins. Masks of transformers' TensorFlow models are one a
row; those of packs are one a token, and made where Transformer blocks take them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_tx.core import internals
from tff_tx.models.tracing.layer_stacks import transformer_blocks

PACKABLE = ("gpt2", "gptj", "llama", "mistral", "openai-gpt", "xglm")
"""Architectures that take positions, and whose blocks add an `attention_mask` to the scores of pairs of tokens."""

_MASK = "attention_mask"
_NEVER = -1e9


def separated(model: Any, inputs: Any):
    """Has blocks of a model, while it is called on rows with `position_ids`, attend within examples alone.

    Args:
      model: A built Keras model.
      inputs: What it is called on.
    """
    if not isinstance(inputs, Mapping) or not {"position_ids", _MASK} <= set(inputs):
        return internals.swapped()
    number = tf.cumsum(tf.cast(tf.equal(inputs["position_ids"], 0), tf.int32), 1)
    same = tf.equal(number[:, tf.newaxis, :, tf.newaxis], number[:, tf.newaxis, tf.newaxis, :])
    return internals.swapped(*((block, "call", _within(block, same)) for block in transformer_blocks(model)))


def _within(block, same):
    call, place = block.call, list(inspect.signature(type(block).call).parameters).index(_MASK) - 1

    @tf.autograph.experimental.do_not_convert
    def call_within(*args, **kwargs):
        if _MASK in kwargs:
            kwargs[_MASK] = tf.where(same, kwargs[_MASK], _NEVER)
        else:
            args = (*args[:place], tf.where(same, args[place], _NEVER), *args[place + 1 :])
        return call(*args, **kwargs)

    return call_within
