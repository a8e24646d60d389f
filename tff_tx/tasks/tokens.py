"""Batches of token ids as text models take them."""

from __future__ import annotations

import collections

import tensorflow as tf

PADDING = -1
"""Stands for no token while a batch is padded: no tokenizer's id, unlike the padding token's own."""

IDS = tf.TensorSpec([None, None], tf.int32)
"""Of a batch of sequences."""


def masked(ids: tf.Tensor, pad_id: int) -> collections.OrderedDict:
    """`attention_mask` and `input_ids`, int32 as `ids`, of which `PADDING` becomes the padding token."""
    is_token = tf.not_equal(ids, PADDING)
    return collections.OrderedDict(
        attention_mask=tf.cast(is_token, tf.int32), input_ids=tf.where(is_token, ids, pad_id)
    )
