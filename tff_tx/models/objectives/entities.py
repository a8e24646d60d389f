"""Entity-level counts inside the graph, as seqeval counts them.

seqeval (github.com/chakki-works/seqeval) works on Python lists after training; federated metrics
must be sums made on the client. This is its default (conlleval) mode,
vectorized: an entity is a run of tokens of one type, a new one starting at `B-` or at a change of
  type; a predicted
entity is right if a true one of the same type starts and ends at the same tokens.
"""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf

from tff_tx.core.errors import UserError


class EntityCounter:
    """Counts true, predicted and correct entities in batches of IOB2 labels."""

    def __init__(self, label_names):
        prefixes = [name.partition("-")[0] for name in label_names]
        for name, prefix in zip(label_names, prefixes):
            if prefix not in ("B", "I", "O"):
                raise UserError(
                    f"label {name!r} is not in the IOB2 scheme, in which every label is O, B-TYPE "
                    "or I-TYPE: convert the tags of the data."
                )
        kinds = sorted({name.partition("-")[2] for name, p in zip(label_names, prefixes) if p != "O"})
        self._begins = np.array([p == "B" for p in prefixes])
        self._kind = np.array(
            [0 if p == "O" else 1 + kinds.index(n.partition("-")[2]) for n, p in zip(label_names, prefixes)],
            np.int32,
        )

    def __call__(self, labels, predictions, counted) -> collections.OrderedDict:
        """Counts entities over the tokens where `counted`, as if the others were not there.

        Args:
          labels: int32 [batch, length].
          predictions: int32 [batch, length].
          counted: bool [batch, length].

        Returns:
          OrderedDict of int64 scalars `entities_correct`, `entities_predicted`, `entities_true`.
        """
        labels, predictions, counted = _to_front(labels, predictions, counted)
        start_true, end_true, kind_true = self._spans(labels, counted)
        start_pred, end_pred, kind_pred = self._spans(predictions, counted)
        correct = (
            (end_true & end_pred) & tf.equal(kind_true, kind_pred) & tf.equal(_latest(start_true), _latest(start_pred))
        )
        return collections.OrderedDict(
            entities_correct=tf.math.count_nonzero(correct),
            entities_predicted=tf.math.count_nonzero(start_pred),
            entities_true=tf.math.count_nonzero(start_true),
        )

    def _spans(self, tags, counted):
        """Where entities start and end, bool, and the kind of each token, 0 outside."""
        tags = tf.where(counted, tags, 0)
        kind = tf.where(counted, tf.gather(self._kind, tags), 0)
        begins = counted & tf.gather(self._begins, tags)
        inside = kind > 0
        before = tf.pad(kind[:, :-1], [[0, 0], [1, 0]])
        start = inside & (begins | tf.not_equal(kind, before))
        start_after = tf.pad(start[:, 1:], [[0, 0], [0, 1]])
        inside_after = tf.pad(inside[:, 1:], [[0, 0], [0, 1]])
        return start, inside & (start_after | ~inside_after), kind


def _to_front(labels, predictions, counted):
    """Moves the counted tokens of each row to its front, keeping their order."""
    order = tf.argsort(tf.cast(~counted, tf.int32), axis=1, stable=True)
    return tuple(tf.gather(t, order, batch_dims=1) for t in (labels, predictions, counted))


def _latest(mask):
    """Index of the last true at or before each position, -1 where there is none; int32."""
    length = tf.shape(mask)[1]
    position = tf.range(length)
    earlier = position[tf.newaxis, :] <= position[:, tf.newaxis]
    return tf.reduce_max(tf.where(earlier & mask[:, tf.newaxis, :], position, -1), axis=-1)
