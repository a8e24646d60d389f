"""Canaries among the clients of a store: who has what, and that the record is what was made."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tff_tx.analysis import auditing
from tff_tx.core.errors import UserError
from tff_tx.datasets import store

SPEC = collections.OrderedDict(input_ids=tf.TensorSpec([None], tf.int32))
TEXTS = {"a": [[1, 2, 3], [4, 5]], "b": [[6, 7]]}


@pytest.fixture
def clients(tmp_path):
    path = str(tmp_path / "store.sqlite")
    with store.StoreWriter(path, SPEC, {}) as writer:
        for client, texts in TEXTS.items():
            for text in texts:
                writer.add("train", client, {"input_ids": text})
    return store.SqliteClientData(path, "train")


def make(count=20, seed=1):
    return auditing.make_canaries(count, [1, 3], 5, range(10, 20), seed)


def texts_of(dataset):
    return [example["input_ids"].numpy().tolist() for example in dataset]


def test_clients_keep_their_examples_and_canaries_have_theirs(clients):
    canaries = make()
    data = auditing.WithCanaries(clients, canaries)
    present = [c for c in canaries if c.is_in]
    assert 0 < len(present) < len(canaries)
    assert data.client_ids == ["a", "b", *(c.client_id for c in present)]
    traced = tf.function(lambda client: tf.data.experimental.to_variant(data.serializable_dataset_fn(client)))
    for client, texts in TEXTS.items():
        assert texts_of(data.create_tf_dataset_for_client(client)) == texts
    for canary in present:
        variant = traced(tf.constant(canary.client_id))
        assert texts_of(tf.data.experimental.from_variant(variant, SPEC)) == [list(canary.tokens)] * canary.repetitions
    assert data.sizes() == {"a": 2, "b": 1, **{c.client_id: c.repetitions for c in present}}
    assert set(data.example_bytes()) == set(data.sizes())
    absent = next(c for c in canaries if not c.is_in)
    with pytest.raises(ValueError, match="is not a client"):
        data.create_tf_dataset_for_client(absent.client_id)


def test_coins_are_fair_and_texts_are_of_the_tokens():
    canaries = make(2000)
    assert abs(sum(c.is_in for c in canaries) - 1000) < 4 * np.sqrt(500)
    tokens = np.array([c.tokens for c in canaries])
    assert tokens.shape == (2000, 5)
    np.testing.assert_allclose(np.bincount(tokens.ravel())[10:] / tokens.size, 0.1, atol=0.015)
    assert [c.repetitions for c in canaries[:4]] == [1, 3, 1, 3]
    references = auditing.make_references(2000, 5, range(10, 20), 1)
    assert not {c.tokens for c in canaries[:20]} & set(references[:20])


def test_the_record_gives_back_what_was_made(tmp_path):
    assert auditing.read_canaries(str(tmp_path)) == ([], [], 0)
    canaries = make()
    auditing.write_canaries(str(tmp_path), canaries, range(10, 20), 1)
    assert auditing.read_canaries(str(tmp_path)) == (canaries, list(range(10, 20)), 1)
    (tmp_path / "canaries.json").write_text('{"seed": 1}')
    with pytest.raises(UserError, match="canaries.json is damaged"):
        auditing.read_canaries(str(tmp_path))
