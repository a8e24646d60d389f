"""Batches of like lengths: the same examples, less padding."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tests.tasks.test_preprocessing import BYTES, SEED_A, SEED_B, TOKENS, dataset
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.tasks import Preprocessing
from tff_tx.tasks.bucketing import WINDOW, padding_share

LENGTHS = np.random.default_rng(5).permutation(np.arange(3, 83))


def rows():
    """Texts whose tokens are all the same number, another one in each."""
    return [[100 + i] * n for i, n in enumerate(LENGTHS)]


def batches(seed=SEED_A, **fields):
    local = ClientConfig(**{"batch_size": 4, **fields})
    return Preprocessing("causal_lm", TOKENS, BYTES).train(lambda _: dataset(rows()), seed, local)


def lengths(x):
    """Of the texts in a batch, as they are stored."""
    return LENGTHS[x["input_ids"].numpy()[:, 0] - 100]


def texts(data):
    return [x["input_ids"].numpy()[:, 0].tolist() for x, _ in data]


def test_every_example_is_there_once_padded_to_the_longest_of_its_batch():
    data = list(batches(bucket_by_length=True))
    assert sorted(sum(texts(data), [])) == list(range(100, 180))
    for x, y in data:
        stored = lengths(x)
        assert x["input_ids"].shape == y.shape == (4, max(stored) - 1)  # the last token of the longest is a label alone
        np.testing.assert_array_equal(x["attention_mask"].numpy().sum(1), np.minimum(stored, max(stored) - 1))


def test_a_batch_is_of_neighbours_in_length():
    """In one window of all 80 texts, whose lengths are consecutive numbers, each is of four of these."""
    data = list(batches(batch_size=10, bucket_by_length=True))
    assert len(data) == WINDOW == 8
    spans = [lengths(x) for x, _ in data]
    assert all(max(span) - min(span) == 9 for span in spans)
    firsts = [min(span) for span in spans]
    assert firsts != sorted(firsts)


def test_there_is_less_padding():
    """By hand: ten texts of n to n + 9 tokens are n + 8 wide and leave 0 + 0 + 1 + ... + 8 places."""
    whole, bucketed = batches(batch_size=10), batches(batch_size=10, bucket_by_length=True)
    widths = np.arange(3, 83, 10) + 8
    assert padding_share([bucketed]) == pytest.approx(8 * 36 / (10 * widths).sum())
    unsorted = [(lengths(x), x["input_ids"].shape[1]) for x, _ in whole]
    places = sum((width - np.minimum(stored, width)).sum() for stored, width in unsorted)
    assert padding_share([whole]) == pytest.approx(places / sum(10 * width for _, width in unsorted))
    assert padding_share([whole]) > 0.3 > 0.15 > padding_share([bucketed])


def test_order_and_batches_depend_on_the_seed_and_the_pass_alone():
    first = texts(batches(bucket_by_length=True, epochs=2))
    assert first == texts(batches(bucket_by_length=True, epochs=2))
    assert first != texts(batches(SEED_B, bucket_by_length=True, epochs=2))
    assert sorted(map(sorted, first[:20])) != sorted(map(sorted, first[20:]))
    assert sorted(sum(first[:20], [])) == sorted(sum(first[20:], []))


def test_steps_train_on_the_same_examples():
    bucketed, whole = texts(batches(steps=5, bucket_by_length=True)), texts(batches(steps=5))
    assert [len(batch) for batch in bucketed] == [4] * 5
    assert sorted(sum(bucketed, [])) == sorted(sum(whole, []))
    assert [len(batch) for batch in texts(batches(steps=30, bucket_by_length=True))] == [4] * 30


def test_labels_of_tokens_stay_with_them():
    spec = collections.OrderedDict(TOKENS, labels=tf.TensorSpec([None], tf.int32))
    stored = [([100 + i] * n, [-100, *[i] * (n - 2), -100]) for i, n in enumerate(LENGTHS)]
    data = tf.data.Dataset.from_generator(
        lambda: (collections.OrderedDict(input_ids=ids, labels=labels) for ids, labels in stored), output_signature=spec
    )
    local = ClientConfig(batch_size=4, bucket_by_length=True)
    for x, y in Preprocessing("token_classification", spec, BYTES).train(lambda _: data, SEED_A, local):
        assert x["input_ids"].shape == y.shape
        inner = (y.numpy() != -100).sum(1)
        np.testing.assert_array_equal(inner, x["attention_mask"].numpy().sum(1) - 2)
        np.testing.assert_array_equal(y.numpy().max(1), x["input_ids"].numpy()[:, 0] - 100)


def test_histories_of_items_are_sorted_too():
    spec = collections.OrderedDict(item_ids=tf.TensorSpec([None], tf.int32), seen=tf.TensorSpec([None], tf.int32))
    histories = [list(range(1, 1 + n)) for n in np.random.default_rng(1).permutation(np.arange(3, 23))]
    data = tf.data.Dataset.from_generator(
        lambda: (collections.OrderedDict(item_ids=h, seen=sorted(h)) for h in histories), output_signature=spec
    )
    local = ClientConfig(batch_size=5, bucket_by_length=True)
    preprocessing = Preprocessing("next_item", spec, num_labels=30)
    widths = [x["item_ids"].shape[1] for x, _ in preprocessing.train(lambda _: data, SEED_A, local)]
    assert sorted(widths) == [6, 11, 16, 21]


def test_images_are_refused():
    spec = collections.OrderedDict(pixel_values=tf.TensorSpec([1, 4, 4]), label=tf.TensorSpec([], tf.int32))
    preprocessing = Preprocessing("image_classification", spec)
    preprocessing.check(ClientConfig())
    with pytest.raises(UserError, match="all examples of task.kind=image_classification have the same"):
        preprocessing.check(ClientConfig(bucket_by_length=True))
