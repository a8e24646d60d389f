"""Batches made of stored examples: padding, shifting, masking, order."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import transformers
from tensorflow.python.eager import context

from tff_tx.config.algorithm import ClientConfig
from tff_tx.models import IGNORED, SEED
from tff_tx.tasks import Preprocessing
from tff_tx.tasks.recipe import LabelledRecipe

SEED_A, SEED_B = tf.constant([1, 2], tf.int64), tf.constant([1, 3], tf.int64)
BYTES = transformers.ByT5Tokenizer(extra_ids=0)
TOKENS = {"input_ids": tf.TensorSpec([None], tf.int32)}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A WordPiece tokenizer with a mask token and 95 words."""
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    path.write_text("\n".join(special + [f"w{i}" for i in range(95)]))
    return transformers.BertTokenizerFast(str(path))


def dataset(rows, **more):
    """Stored examples with the given tokens and other features."""
    spec = collections.OrderedDict(input_ids=tf.TensorSpec([None], tf.int32))
    spec.update({name: tf.TensorSpec(np.shape(v[0]), tf.int32) for name, v in more.items()})
    columns = {"input_ids": rows, **more}

    def generate():
        for i in range(len(rows)):
            yield collections.OrderedDict((n, np.asarray(v[i], np.int32)) for n, v in columns.items())

    return tf.data.Dataset.from_generator(generate, output_signature=spec)


def unlimited(**fields):
    return ClientConfig(**{"batch_size": 4, **fields})


def test_causal_labels_are_the_next_tokens():
    data = dataset([[5, 6, 7, 8], [9, 10]])
    ((x, y),) = Preprocessing("causal_lm", TOKENS, BYTES).evaluate(data, SEED_A, 4)
    np.testing.assert_array_equal(x["input_ids"], [[5, 6, 7], [9, 10, 0]])
    np.testing.assert_array_equal(x["attention_mask"], [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(y, [[6, 7, 8], [10, IGNORED, IGNORED]])


def test_the_padding_token_within_a_text_is_a_token():
    """Padding is distinguished from a token that has the padding token's id, such as GPT-2's eos."""
    ((x, y),) = Preprocessing("causal_lm", TOKENS, BYTES).evaluate(dataset([[5, 0, 7, 8], [9, 10]]), SEED_A, 2)
    np.testing.assert_array_equal(x["attention_mask"], [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(y, [[0, 7, 8], [10, IGNORED, IGNORED]])


def test_sequence_and_token_labels(words):
    data = dataset([[2, 9, 3], [2, 3]], label=[4, 5])
    ((x, y),) = Preprocessing("sequence_classification", data.element_spec, words).evaluate(data, SEED_A, 4)
    np.testing.assert_array_equal(x["input_ids"], [[2, 9, 3], [2, 3, 0]])
    np.testing.assert_array_equal(y, [4, 5])
    spec = collections.OrderedDict(TOKENS, labels=tf.TensorSpec([None], tf.int32))
    rows = [([2, 9, 3], [-100, 1, -100]), ([2, 3], [-100, 0])]
    data = tf.data.Dataset.from_generator(
        lambda: (collections.OrderedDict(input_ids=ids, labels=labels) for ids, labels in rows), output_signature=spec
    )
    ((_, y),) = Preprocessing("token_classification", spec, words).evaluate(data, SEED_A, 4)
    np.testing.assert_array_equal(y, [[-100, 1, -100], [-100, 0, -100]])


def test_images_pass_through():
    pixels = np.random.default_rng(0).random([3, 1, 4, 4]).astype(np.float32)
    spec = collections.OrderedDict(pixel_values=tf.TensorSpec([1, 4, 4]), label=tf.TensorSpec([], tf.int32))
    data = tf.data.Dataset.from_tensor_slices(collections.OrderedDict(pixel_values=pixels, label=np.int32([1, 2, 3])))
    preprocessing = Preprocessing("image_classification", spec)
    ((x, y),) = preprocessing.evaluate(data, SEED_A, 4)
    np.testing.assert_array_equal(x["pixel_values"], pixels)
    np.testing.assert_array_equal(y, [1, 2, 3])
    assert set(preprocessing.x_spec) == {"pixel_values", SEED}


def test_recipes_are_not_converted_by_autograph():
    """As inside of `tf.function(autograph=False)`, where engines and evaluation call them."""
    found = []

    class Watched(LabelledRecipe):
        def batch(self, features, seed):
            found.append(tf.__internal__.autograph.control_status_ctx().status.name)
            return super().batch(features, seed)

    spec = collections.OrderedDict(pixels=tf.TensorSpec([2]), label=tf.TensorSpec([], tf.int32))
    preprocessing = Preprocessing("image_classification", spec, recipe=Watched({"pixels": 0.0}))
    data = tf.data.Dataset.from_tensors(collections.OrderedDict(pixels=[0.0, 1.0], label=1))
    preprocessing.train(lambda epoch: data, SEED_A, unlimited())
    preprocessing.evaluate(data, SEED_A, 1)
    assert found == ["DISABLED"] * 2


class TestMasking:
    """The recipe of Devlin et al. 2019, section 3.1, over 200,000 tokens."""

    @pytest.fixture(scope="class")
    def batch(self, words):
        rows = [[2, *np.random.default_rng(i).integers(5, 100, 198), 3] for i in range(1000)]
        data = dataset(rows)
        ((x, y),) = Preprocessing("masked_lm", TOKENS, words).evaluate(data, SEED_A, 1000)
        return np.array(rows), x["input_ids"].numpy(), y.numpy()

    def test_labels_are_the_chosen_tokens_as_they_were(self, batch):
        rows, ids, labels = batch
        chosen = labels != IGNORED
        np.testing.assert_array_equal(labels[chosen], rows[chosen])
        np.testing.assert_array_equal(ids[~chosen], rows[~chosen])

    def test_special_tokens_are_never_chosen(self, batch):
        rows, _, labels = batch
        assert (labels[rows < 5] == IGNORED).all()

    def test_shares(self, batch):
        """15 % chosen; of these 80 % masked, 10 % random, 10 % kept; within 4 standard deviations."""
        rows, ids, labels = batch
        words, chosen = rows >= 5, labels != IGNORED

        def close(share, expected, n):
            assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n)

        close(chosen.sum() / words.sum(), 0.15, words.sum())
        n = chosen.sum()
        close((ids[chosen] == 4).mean(), 0.8 + 0.1 / 100, n)  # a random token may be the mask
        kept = (ids[chosen] == rows[chosen]).mean()
        close(kept, 0.1 + 0.1 / 100, n)  # or the token itself

    def test_masks_are_fresh_each_epoch_and_repeat_with_the_seed(self, words):
        data = dataset([[2, *range(5, 60), 3]])
        preprocessing = Preprocessing("masked_lm", TOKENS, words)

        def labels(seed):
            batches = preprocessing.train(lambda _: data, seed, unlimited(epochs=2))
            return [y.numpy() for _, y in batches]

        first, second = labels(SEED_A)
        assert (first != second).any()
        np.testing.assert_array_equal(first, labels(SEED_A)[0])
        assert (first != labels(SEED_B)[0]).any()


class TestLocalTraining:
    """How much a client computes."""

    ROWS = [[i, i] for i in range(10, 21)]

    def seen(self, local, seed=SEED_A):
        preprocessing = Preprocessing("causal_lm", TOKENS, BYTES)
        batches = preprocessing.train(lambda _: dataset(self.ROWS), seed, local)
        return [x["input_ids"].numpy()[:, 0].tolist() for x, _ in batches]

    def test_an_epoch_is_every_example_once_in_random_order(self):
        batches = self.seen(unlimited())
        assert [len(b) for b in batches] == [4, 4, 3]
        flat = sum(batches, [])
        assert sorted(flat) == list(range(10, 21))
        assert flat != sorted(flat)

    def test_epochs_have_orders_of_their_own(self):
        batches = self.seen(unlimited(epochs=2))
        first, second = sum(batches[:3], []), sum(batches[3:], [])
        assert sorted(first) == sorted(second)
        assert first != second

    def test_steps_are_full_batches_across_passes(self):
        batches = self.seen(unlimited(steps=5))
        assert [len(b) for b in batches] == [4] * 5
        assert sorted(sum(batches, [])[:11]) == list(range(10, 21))

    def test_the_order_depends_on_the_seed_alone(self):
        assert self.seen(unlimited()) == self.seen(unlimited())
        assert self.seen(unlimited()) != self.seen(unlimited(), SEED_B)

    @pytest.mark.parametrize("global_seed", [0, 3])
    def test_the_order_does_not_depend_on_the_global_seed(self, global_seed):
        before, expected = context.global_seed(), self.seen(unlimited())
        try:
            tf.random.set_seed(global_seed)
            assert self.seen(unlimited()) == expected
        finally:
            tf.random.set_seed(before)

    def test_each_batch_has_a_seed_of_its_own(self):
        preprocessing = Preprocessing("causal_lm", TOKENS, BYTES)
        batches = preprocessing.train(lambda _: dataset(self.ROWS), SEED_A, unlimited(epochs=2))
        assert len({tuple(x[SEED].numpy()) for x, _ in batches}) == 6
