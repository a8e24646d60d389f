"""Next-item recommendation: the item that a client chooses after a history of others."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import TaskKind
from tff_tx.tasks.recipe import Recipe

PADDING = 0
"""The number of no item."""

_NONE = -1


class Histories(Recipe):
    """Histories, and what to rank after them: the item that followed first, then items that did not.

    For training each item of a history but the first is to be found among itself and one other; for evaluation the
    last one among itself and 100 others (Kang and McAuley 2018, sections III.E and IV.C). The others are drawn from all
    that the history does not have.
    """

    pads = {"item_ids": PADDING, "seen": _NONE}
    lengthwise = ("item_ids",)

    def __init__(self, num_items: int):
        self._num_items = num_items

    def inputs(self, element_spec):
        return collections.OrderedDict(
            item_ids=tf.TensorSpec([None, None], tf.int32), candidates=tf.TensorSpec([None, None, None], tf.int32)
        )

    def batch(self, features, seed):
        return self._ranked(features, seed, num_others=1)

    def evaluation_batch(self, features, seed):
        return self._ranked(features, seed, num_others=100, positions=1)

    def _ranked(self, features, seed, num_others, positions=None):
        items = _to_the_right(features["item_ids"])
        history, followed = items[:, :-1], items[:, 1:]
        followed = followed if positions is None else followed[:, -positions:]
        shape = tf.concat([tf.shape(followed), [num_others]], 0)
        others = draw_unseen(features["seen"], self._num_items, shape, seed)
        x = collections.OrderedDict(
            item_ids=history, candidates=tf.concat([followed[..., tf.newaxis], others], axis=-1)
        )
        # Where the history has not begun, its first item has nothing that it follows.
        begun = tf.not_equal(history[:, -tf.shape(followed)[1] :], PADDING)
        return x, tf.where(begun, 0, models.IGNORED)


def draw_unseen(seen: tf.Tensor, num_items: int, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws items that a history does not have, each with the same probability.

    The u-th of the items that are not in s_1 < s_2 < ... is u plus the number of i with s_i - i < u, all counted
    from 1; no draw is ever thrown away.

    Args:
      seen: int32 [batch, most], each row ascending without repetition, the rest of it negative.
      num_items: Items are numbered from 1 to this; for a row that has them all, all draws are the last.
      shape: int32 [k], of the result; its first is batch.
      seed: int64 [2].

    Returns:
      int32 of that shape.
    """
    number = tf.range(1, tf.shape(seen)[1] + 1)
    gaps = tf.where(seen > 0, seen - number, num_items)
    left = num_items - tf.math.count_nonzero(seen > 0, axis=1, dtype=tf.int32)
    flat = [shape[0], tf.reduce_prod(shape[1:])]
    uniform = tf.random.stateless_uniform(flat, seed)
    left = tf.maximum(left, 1)[:, tf.newaxis]
    order = 1 + tf.minimum(tf.cast(uniform * tf.cast(left, tf.float32), tf.int32), left - 1)
    drawn = order + tf.searchsorted(gaps, order, side="left")
    return tf.reshape(tf.minimum(drawn, num_items), shape)


def _to_the_right(ids: tf.Tensor) -> tf.Tensor:
    """Moves the padding of each row from its end to its beginning."""
    lengths = tf.math.count_nonzero(tf.not_equal(ids, PADDING), axis=1)
    return tf.reverse(tf.reverse_sequence(ids, lengths, seq_axis=1), [1])


class NextItem(TaskKind):
    """Histories of items: binary cross-entropy of an item that followed and of one that did not."""

    name = "next_item"
    title = "Next-item recommendation"
    example = "the whole history of a client"
    auto_class = "tff_tx.models.zoo.sasrec:TFAutoModelForNextItem"
    predictor = "tff_tx.inference.records:Recommender"
    architecture = "sasrec"
    needs_label_names = True
    limited_lengths = ("max_length",)
    capabilities = frozenset({"in_time", "silos"})

    def encoder(self, facts):
        if len(facts.label_names) < 2:
            raise UserError(
                f"{setting('data.label_column')}={facts.data.label_column} has {len(facts.label_names)} item: to "
                f"recommend one needs "
                "others."
            )
        return datasets.NextItemEncoder(facts.label_names, facts.model.max_length)

    def recipe(self, tokenizer, num_labels, config):
        return Histories(num_labels)

    def objective(self, label_names, model):
        return models.next_item()

    def new_config(self, facts, train):
        return {"max_position_embeddings": facts.model.max_length}


TASK = NextItem()
