"""Batches of series, histories and tables."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tff_tx.config.algorithm import ClientConfig
from tff_tx.tasks import Preprocessing
from tff_tx.tasks.kinds.next_item import draw_unseen

SEED = tf.constant([3, 4], tf.int64)


def dataset(examples, spec):
    spec = collections.OrderedDict(spec)
    ordered = [collections.OrderedDict((name, example[name]) for name in spec) for example in examples]
    return tf.data.Dataset.from_generator(lambda: iter(ordered), output_signature=spec)


def test_a_window_becomes_past_and_last_value_with_future():
    spec = {"past_values": tf.TensorSpec([3]), "future_values": tf.TensorSpec([2])}
    data = dataset([{"past_values": [1, 2, 3], "future_values": [4, 5]}] * 2, spec)
    ((x, y),) = Preprocessing("forecasting", spec).evaluate(data, SEED, 4)
    assert x["past_values"].numpy().tolist() == [[1, 2, 3]] * 2
    assert y.numpy().tolist() == [[3, 4, 5]] * 2


HISTORIES = {"item_ids": tf.TensorSpec([None], tf.int32), "seen": tf.TensorSpec([None], tf.int32)}
EXAMPLES = [{"item_ids": [4, 2, 4, 9], "seen": [2, 4, 9]}, {"item_ids": [7, 1], "seen": [1, 5, 7]}]


def test_histories_end_at_the_right_and_each_item_is_to_be_found():
    preprocessing = Preprocessing("next_item", HISTORIES, num_labels=12)
    data = dataset(EXAMPLES, HISTORIES)
    # One batch, whose rows are shuffled.
    ((x, y),) = preprocessing.train(lambda _: data, SEED, ClientConfig(batch_size=2))
    rows = sorted(zip(x["item_ids"].numpy().tolist(), x["candidates"][..., 0].numpy().tolist(), y.numpy().tolist()))
    assert [(ids, label) for ids, _, label in rows] == [([0, 0, 7], [-100, -100, 0]), ([4, 2, 4], [0, 0, 0])]
    assert rows[0][1][-1] == 1
    assert rows[1][1] == [2, 4, 9]
    assert x["candidates"].shape == (2, 3, 2)


def test_for_evaluation_the_last_item_is_among_100_others_the_same_every_time():
    preprocessing = Preprocessing("next_item", HISTORIES, num_labels=12)
    ((x, y),) = preprocessing.evaluate(dataset(EXAMPLES, HISTORIES), SEED, 2)
    assert x["candidates"].shape == (2, 1, 101)
    assert x["candidates"][:, 0, 0].numpy().tolist() == [9, 1]
    assert y.numpy().tolist() == [[0], [0]]
    others = x["candidates"][:, 0, 1:].numpy()
    assert set(others[0]) == set(range(1, 13)) - {2, 4, 9}
    assert set(others[1]) == set(range(1, 13)) - {1, 5, 7}
    ((again, _),) = preprocessing.evaluate(dataset(EXAMPLES, HISTORIES), SEED, 2)
    np.testing.assert_array_equal(x["candidates"], again["candidates"])
    ((other, _),) = preprocessing.evaluate(dataset(EXAMPLES, HISTORIES), SEED + 1, 2)
    assert (other["candidates"] != x["candidates"]).numpy().any()


@pytest.mark.parametrize("seen", [[1], [8], [3, 4, 5], [1, 2, 6, 8], list(range(2, 9))])
def test_unseen_items_are_drawn_alike_often(seen):
    """All that are not in the history, and only those, at frequencies within five standard errors."""
    rows = tf.constant([seen + [-1] * (8 - len(seen))])
    drawn = draw_unseen(rows, 8, tf.constant([1, 40, 100]), SEED).numpy().ravel()
    left = sorted(set(range(1, 9)) - set(seen))
    counts = collections.Counter(drawn.tolist())
    assert sorted(counts) == left
    share = 1 / len(left)
    error = np.sqrt(share * (1 - share) / 4000)
    assert all(abs(counts[item] / 4000 - share) <= 5 * error for item in left)


def test_a_row_of_a_table_keeps_its_columns():
    spec = {
        "numbers": tf.TensorSpec([2]),
        "categories": tf.TensorSpec([1], tf.int32),
        "label": tf.TensorSpec([], tf.int32),
    }
    data = dataset([{"numbers": [1, 2], "categories": [3], "label": 1}], spec)
    ((x, y),) = Preprocessing("tabular_classification", spec, num_labels=2).evaluate(data, SEED, 4)
    assert list(x) == ["numbers", "categories", "seed"]
    assert (x["numbers"].numpy().tolist(), x["categories"].numpy().tolist(), y.numpy().tolist()) == (
        [[1, 2]],
        [[3]],
        [1],
    )
