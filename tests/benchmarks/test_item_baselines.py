"""The ranking by popularity, by hand."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import item_baselines


class Clients:
    """Whose examples are histories."""

    client_ids = ("a", "b")

    @staticmethod
    def serializable_dataset_fn(client_id):
        histories = tf.constant([[[1, 2, 3], [3, 0, 0]], [[3, 1, 4], [0, 0, 0]]])
        own = tf.gather(histories, tf.cast(tf.equal(client_id, "b"), tf.int32))
        return tf.data.Dataset.from_tensor_slices(collections.OrderedDict(item_ids=own))


def test_items_are_counted_over_all_clients():
    # Padding counts for no item.
    assert item_baselines.item_counts(Clients, 5).tolist() == [5, 2, 1, 3, 1, 0]


def test_the_place_among_the_candidates_makes_the_scores():
    """The first candidate is to be found: of 12, two clients find it at places 1 and 12."""
    counts = np.arange(20, dtype=np.float32)[::-1].copy()  # the lower the number, the more popular

    def batches(client_id):
        first = tf.where(tf.equal(client_id, "a"), 1, 12)
        candidates = tf.concat([[first], tf.range(2, 13)], 0)[tf.newaxis, tf.newaxis]
        x = collections.OrderedDict(candidates=candidates)
        return tf.data.Dataset.from_tensors((x, tf.zeros([1, 1], tf.int32)))

    scores = item_baselines.rank(counts, batches, ["a", "b"])
    # Of b the item itself is among the others too, an equal count that counts against it: place 12.
    assert scores["hr_at_10"] == 0.5
    assert scores["ndcg_at_10"] == pytest.approx(0.5)
    assert scores["auc"] == pytest.approx(0.5)
    assert scores["num_items"] == 2
