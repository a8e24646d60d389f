"""Objective of texts with any number of labels: a yes or no for each, and the thresholds between the two."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_tx.models.objectives.classes import class_f1
from tff_tx.models.objectives.metric import COUNTS, LOSS, Metric
from tff_tx.models.objectives.objective import IGNORED, Objective
from tff_tx.models.objectives.pooled import pooled_metrics

GRID = np.arange(1, 20, dtype=np.float32) / 20
"""Thresholds among which those of the labels are chosen."""

_METRICS = (
    Metric("exact_match", "Exact match of all labels", plotted=False),
    Metric("micro_f1", "Micro F1"),
    Metric("macro_f1", "Macro F1"),
)


def multi_label(name: str, number: int, thresholds: Sequence[float] | None = None) -> Objective:
    """Sigmoid cross-entropy, the mean over examples and labels, in nats.

    Logits float32 [batch, labels], labels int32 [batch, labels] of 0 and 1. F1 is scikit-learn's over the pooled data:
    micro over all decisions, macro the mean over labels.

    Args:
      name: Of the task.
      number: Of labels.
      thresholds: The probability from which a label applies, for each; None: 0.5.
    """
    cuts = tf.constant([0.5] * number if thresholds is None else thresholds, tf.float32).numpy()

    def loss(output, label, sample_weight=None):
        del sample_weight
        counted = tf.cast(tf.not_equal(label, IGNORED), tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(label, tf.float32) * counted, output)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * counted), tf.reduce_sum(counted))

    def sums(logits, labels, loss):
        counted = tf.not_equal(labels, IGNORED)
        true = tf.equal(labels, 1)
        probabilities = tf.sigmoid(logits)
        applies = counted & (probabilities >= cuts)
        at_grid = counted & (probabilities >= GRID[:, np.newaxis, np.newaxis])
        items = tf.math.count_nonzero(counted)
        return collections.OrderedDict(
            loss=loss * tf.cast(items, tf.float32),
            items=items,
            examples=tf.shape(labels, tf.int64)[0],
            exact=tf.math.count_nonzero(tf.reduce_all(tf.equal(applies, true), axis=1) & counted[:, 0]),
            class_true=tf.math.count_nonzero(true, axis=0),
            class_predicted=tf.math.count_nonzero(applies, axis=0),
            class_correct=tf.math.count_nonzero(applies & true, axis=0),
            grid_predicted=tf.math.count_nonzero(at_grid, axis=1),
            grid_correct=tf.math.count_nonzero(at_grid & true, axis=1),
        )

    spec = [None, number]
    return Objective(
        name,
        tf.TensorSpec(spec, tf.int32),
        loss,
        sums,
        _finalize,
        (LOSS, *_METRICS, *COUNTS),
        output_spec=tf.TensorSpec(spec),
        new_head=True,
        not_classes="independent decisions on each label",
        choose=chosen_thresholds,
        pooled_fn=pooled_metrics,
    )


def _finalize(sums):
    total = {n: tf.reduce_sum(sums[f"class_{n}"], keepdims=True) for n in ("true", "predicted", "correct")}
    examples = tf.cast(sums["examples"], tf.float32)
    return collections.OrderedDict(
        loss=tf.math.divide_no_nan(sums["loss"], tf.cast(sums["items"], tf.float32)),
        exact_match=tf.math.divide_no_nan(tf.cast(sums["exact"], tf.float32), examples),
        micro_f1=class_f1({f"class_{n}": value for n, value in total.items()})[0],
        macro_f1=tf.reduce_mean(class_f1(sums)),
        num_examples=sums["examples"],
        num_items=sums["items"],
    )


def chosen_thresholds(sums: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """`thresholds` of the highest F1 for each label, by sums over validation data; 0.5 where several are as good.

    Nothing but counts is needed of the clients: of each label at each threshold of `GRID`.
    """
    true = np.asarray(sums["class_true"])
    f1 = 2 * np.asarray(sums["grid_correct"]) / np.maximum(np.asarray(sums["grid_predicted"]) + true, 1)
    order = np.argsort(np.abs(GRID - 0.5), kind="stable")
    best = order[np.argmax(f1[order], axis=0)]
    return {"thresholds": [round(float(GRID[i]), 2) for i in best]}
