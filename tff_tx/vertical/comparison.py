"""What a top model of pairs reads: how the tokens of two parties' texts compare, rather than what they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import tensorflow as tf


def comparisons(tokens: Sequence[tf.Tensor], present: tf.Tensor) -> tf.Tensor:
    """Products, absolute differences and cosines (times sqrt(size)) of every two parties' tokens, of unit length each.

    Reimers and Gurevych 2019, "Sentence-BERT", https://arxiv.org/abs/1908.10084, section 3, with the product of
    Conneau et al. 2017, https://arxiv.org/abs/1705.02364, and without the tokens themselves.

    Args:
      tokens: float32 [batch, 1, size], by party.
      present: bool [batch, parties]; pairs with a party that is missing are zeros.

    Returns:
      float32 [batch, pairs * (2 * size + 1)].
    """
    unit = [tf.math.l2_normalize(token[:, 0], axis=-1) for token in tokens]
    found = []
    for one, other in itertools.combinations(range(len(unit)), 2):
        product, both = unit[one] * unit[other], present[:, one] & present[:, other]
        # Longer than a product, so that what is known to matter is learned before single dimensions are by heart.
        cosine = tf.reduce_sum(product, axis=-1, keepdims=True) * math.sqrt(product.shape[-1])
        pair = tf.concat([product, tf.abs(unit[one] - unit[other]), cosine], axis=-1)
        found.append(tf.where(both[:, tf.newaxis], pair, tf.zeros_like(pair)))
    return tf.concat(found, axis=-1)
