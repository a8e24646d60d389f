"""Objective of recommendation: one item that was chosen, against others that were not."""

from __future__ import annotations

import collections
import math

import tensorflow as tf

from tff_tx.models.objectives.metric import COUNTS, LOSS, Metric
from tff_tx.models.objectives.objective import IGNORED, Objective

_CUT = 10
"""Hits are counted among so many."""


def next_item() -> Objective:
    """The first candidate of a position is the item that followed, the others are items that did not.

    Predictions are float32 [batch, positions, candidates], labels int32 [batch, positions]: 0, or `IGNORED` where
    nothing followed. The loss is the binary cross-entropy of SASRec (Kang and McAuley 2018, equation 6), with the mean
    over the candidates that did not follow: -log s(r_0) - mean_j log(1 - s(r_j)), nats.

    Metrics are `auc`, the share of (followed, not followed) pairs that are in the right order, and `hr_at_10` and
    `ndcg_at_10` (section IV.C): whether the item that followed is among the first ten, and 1 / log2(1 + its place) if
    it is. Equal scores count against it. With ten candidates or fewer, as in training, the last two are not a number.
    """

    def loss(output, label, sample_weight=None):
        del sample_weight
        counted = tf.cast(tf.not_equal(label, IGNORED), tf.float32)
        followed, others = output[..., 0], output[..., 1:]
        losses = tf.nn.softplus(-followed) + tf.reduce_mean(tf.nn.softplus(others), -1)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * counted), tf.reduce_sum(counted))

    def sums(predictions, labels, loss):
        counted = tf.cast(tf.not_equal(labels, IGNORED), tf.float32)
        others = tf.shape(predictions)[-1] - 1
        ahead = tf.cast(predictions[..., 1:] >= predictions[..., :1], tf.float32)
        place = 1.0 + tf.reduce_sum(ahead, -1)
        ranked = counted * tf.cast(others >= _CUT, tf.float32)
        hits = ranked * tf.cast(place <= _CUT, tf.float32)
        items = tf.reduce_sum(counted)
        return collections.OrderedDict(
            loss=loss * items,
            ahead=tf.reduce_sum(counted * tf.math.divide_no_nan(place - 1.0, tf.cast(others, tf.float32))),
            hits=tf.reduce_sum(hits),
            gain=tf.reduce_sum(hits * math.log(2.0) / tf.math.log1p(place)),
            ranked=tf.reduce_sum(ranked),
            items=tf.cast(items, tf.int64),
            examples=tf.shape(labels, tf.int64)[0],
        )

    def finalize(sums):
        items = tf.cast(sums["items"], tf.float32)
        return collections.OrderedDict(
            loss=tf.math.divide_no_nan(sums["loss"], items),
            auc=1.0 - tf.math.divide_no_nan(sums["ahead"], items),
            hr_at_10=sums["hits"] / sums["ranked"],
            ndcg_at_10=sums["gain"] / sums["ranked"],
            num_examples=sums["examples"],
            num_items=sums["items"],
        )

    ranks = (Metric("hr_at_10", "Hit rate at 10"), Metric("ndcg_at_10", "NDCG at 10"))
    metrics = (LOSS, Metric("auc", "AUC", plotted=False), *ranks, *COUNTS)
    return Objective("next_item", tf.TensorSpec([None, None], tf.int32), loss, sums, finalize, metrics)
