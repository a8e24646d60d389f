"""Counts by class, and the metrics that sums of them give exactly, over whatever clients they are added up."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import tensorflow as tf

from tff_tx.models.objectives.metric import Metric

_NAMES = ("class_true", "class_predicted", "class_correct")

METRICS = (
    Metric("macro_f1", "Macro F1"),
    Metric("weighted_f1", "Weighted F1", plotted=False),
    Metric("macro_recall", "Macro recall (balanced accuracy)", plotted=False),
)
"""Of `class_metrics`."""


def class_sums(labels: tf.Tensor, predictions: tf.Tensor, counted: tf.Tensor, number: int) -> collections.OrderedDict:
    """Occurrences of each class among labels, predictions, and what both agree on.

    Args:
      labels: int32 of any shape.
      predictions: int32, likewise.
      counted: bool, likewise: where labels count.
      number: Of classes.

    Returns:
      Three int64 [number].
    """
    agree = counted & tf.equal(labels, predictions)
    found = ((labels, counted), (predictions, counted), (labels, agree))
    # A last class for what does not count.
    counts = [
        tf.math.bincount(tf.reshape(tf.where(where, values, number), [-1]), minlength=number + 1, dtype=tf.int64)
        for values, where in found
    ]
    return collections.OrderedDict((name, tf.ensure_shape(c[:number], [number])) for name, c in zip(_NAMES, counts))


def class_f1(sums: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """F1 of each class, float32 [number]; 0 where it is neither among labels nor predictions."""
    true, predicted, correct = (tf.cast(sums[name], tf.float32) for name in _NAMES)
    return tf.math.divide_no_nan(2 * correct, true + predicted)


def class_metrics(sums: Mapping[str, tf.Tensor]) -> collections.OrderedDict:
    """F1 as means over classes, plain and weighted by their true examples; and recall, over classes that occur.

    They are scikit-learn's: of F1 a class counts if it is among labels or predictions, of recall if among labels.
    """
    true, predicted, correct = (tf.cast(sums[name], tf.float32) for name in _NAMES)
    f1, recall = class_f1(sums), tf.math.divide_no_nan(correct, true)

    def mean(values, weights):
        weights = tf.cast(weights, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))

    return collections.OrderedDict(
        macro_f1=mean(f1, true + predicted > 0), weighted_f1=mean(f1, true), macro_recall=mean(recall, true > 0)
    )
