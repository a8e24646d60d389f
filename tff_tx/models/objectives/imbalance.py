"""Losses for classes of unequal frequency, made of the cross-entropy of an objective of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from tff_tx.models.objectives.objective import IGNORED, Objective


def rebalanced(objective: Objective, weights: Sequence[float] | None = None, gamma: float = 0.0) -> Objective:
    """An objective of classes whose loss is w_y (1 - p_y)^gamma times the cross-entropy, the mean over labelled items.

    Focal loss: T.-Y. Lin et al. 2017, "Focal loss for dense object detection", https://arxiv.org/abs/1708.02002,
    equation 5. The mean is over items and not over their weights: else a client with one class would train as if it
    had none.

    Args:
      objective: Of logits [..., classes] and int32 labels [...].
      weights: w of each class; None: 1.
      gamma: Above 0, items that are predicted well count less.
    """
    class_weights = None if weights is None else tf.constant(weights, tf.float32).numpy()

    def loss(output, label, sample_weight=None):
        del sample_weight
        counted = tf.not_equal(label, IGNORED)
        label = tf.where(counted, label, 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, tf.cast(output, tf.float32))
        # Of e.g. exp(-1e-8) float32 gives 1, and of a power of 0 no gradient.
        factor = tf.pow(tf.maximum(-tf.math.expm1(-losses), 1e-7), gamma) if gamma else 1.0
        factor *= (
            tf.cast(counted, tf.float32)
            if class_weights is None
            else tf.where(counted, tf.gather(class_weights, label), 0.0)
        )
        items = tf.math.count_nonzero(counted, dtype=tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * factor), items)

    return dataclasses.replace(objective, loss_fn=loss)
