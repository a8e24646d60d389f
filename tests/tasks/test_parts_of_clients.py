"""Rounds that are too short for all examples of a client go through them without replacement."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import datasets, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.datasets import SqliteClientData, StoreWriter

SIZES = {"few": 10, "some": 50, "ma'ny": 2500}


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Clients whose examples have their place as label, interleaved in the store."""
    path = str(tmp_path_factory.mktemp("parts") / "clients.sqlite")
    spec = collections.OrderedDict(pixel_values=tf.TensorSpec([1, 2, 2]), label=tf.TensorSpec([], tf.int32))
    with StoreWriter(path, spec, {}) as writer:
        for place in range(max(SIZES.values())):
            for client in (client for client, size in SIZES.items() if place < size):
                writer.add("train", client, {"pixel_values": np.zeros([1, 2, 2]), "label": place})
    return SqliteClientData(path, "train")


@pytest.fixture(scope="module")
def rounds(clients):
    """From (client, settings, rounds) to the labels of each batch of each of the rounds."""

    def labels(client, round_nums, seed=1, **local):
        kind = "image_classification"
        preprocessing = tasks.Preprocessing(kind, clients.element_type_structure)
        task = tasks.FederatedTask(
            kind,
            clients,
            tiny.linear_model((1, 2, 2), name="pixel_values"),
            preprocessing,
            ClientConfig(batch_size=4, **local),
        )
        found = []
        for round_num in round_nums:
            (one,) = tasks.client_arguments([client], seed, round_num)
            found.append([y.numpy().tolist() for _, y in task.client_batches(one)])
        return found

    return labels


@pytest.mark.parametrize("local", [{"steps": 5}, {"max_examples": 20}])
def test_all_examples_before_any_comes_again(rounds, local):
    batches = rounds("some", range(1, 7), **local)
    assert all(sum(map(len, one)) == 20 for one in batches)
    seen = [[label for batch in one for label in batch] for one in batches]
    assert all(len(set(one)) == 20 for one in seen)
    assert sorted({label for one in seen[:3] for label in one}) == list(range(50))
    assert {label for one in seen[3:] for label in one} == set(range(50))
    assert seen[:3] != seen[3:]
    assert rounds("some", [5], **local) == batches[4:5], "a round does not depend on those before it"
    assert rounds("some", [1], seed=2, **local) != batches[:1]


def test_epochs_of_a_round_go_on_too(rounds):
    batches = rounds("some", range(1, 6), max_examples=10, epochs=2)
    assert set(np.bincount([label for one in batches for batch in one for label in batch])) == {2}


def test_all_of_a_large_client_is_drawn_from(rounds):
    """The examples of a round are from everywhere: 400 of 2,500, within 4 standard deviations of a random sample."""
    (batches,) = rounds("ma'ny", [1], steps=100)
    labels = np.array(batches).ravel()
    assert len(set(labels)) == 400
    in_quarters = np.histogram(labels, 4, (0, 2500))[0]
    assert abs(in_quarters - 100).max() < 4 * np.sqrt(100 * 0.75 * (1 - 400 / 2500))
    assert abs(np.diff(labels)).mean() > 500


def test_more_steps_than_a_large_client_has_examples_for(rounds):
    (batches,) = rounds("ma'ny", [3], steps=700)
    counts = np.bincount(np.array(batches).ravel(), minlength=2500)
    assert counts.sum() == 2800
    assert set(counts) == {1, 2}
    assert np.flatnonzero(counts == 2).mean() == pytest.approx(1250, abs=4 * 2500 / np.sqrt(12 * 300))


@pytest.mark.parametrize("local", [{"steps": 5}, {"max_examples": 10}, {"max_examples": 15, "epochs": 2}])
def test_clients_that_fit_whole_are_trained_as_without_limit(rounds, local):
    epochs = local.get("epochs", 1)
    (limited,), (whole,) = rounds("few", [2], **local), rounds("few", [2], epochs=epochs)
    seen, expected = (sum(batches, [])[: 10 * epochs] for batches in (limited, whole))
    assert seen == expected


def test_the_order_in_the_store_does_not_matter(clients, tmp_path):
    """As features of a client are stored alone."""
    spec = {"label": clients.element_type_structure["label"]}
    with StoreWriter(str(tmp_path / "alone.sqlite"), spec, {}) as writer:
        for place in range(50):
            writer.add("train", "some", {"label": place})
    draw = datasets.Draw(tf.constant(4, tf.int64), 20, 20, tf.constant([-123456789, 2**60], tf.int64))
    alone = SqliteClientData(str(tmp_path / "alone.sqlite"), "train").serializable_dataset_fn("some", draw)
    among = clients.serializable_dataset_fn("some", draw)
    labels = [int(example["label"]) for example in alone]
    assert labels == [int(example["label"]) for example in among]
    assert len(labels) == 20
