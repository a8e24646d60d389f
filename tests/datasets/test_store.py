"""The store: what goes in comes out, in order, for any client id, in any TFF context."""

import collections
import os
import pickle
import sqlite3

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.datasets import SqliteClientData, StoreWriter, store

SPEC = collections.OrderedDict(
    input_ids=tf.TensorSpec([None], tf.int32),
    pixel_values=tf.TensorSpec([1, 2, 2], tf.float32),
    name=tf.TensorSpec([], tf.string),
    label=tf.TensorSpec([], tf.int32),
)
CLIENTS = ["O'Brien", "Łukasz 'x' \"y\"", "a;DROP TABLE examples", "plain"]


def example(number):
    return {
        "input_ids": np.arange(number, dtype=np.int32),
        "pixel_values": np.full([1, 2, 2], number / 4, np.float32),
        "name": f"n{number}".encode(),
        "label": np.int32(-number),
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("store") / "a b%20#?.sqlite")
    with StoreWriter(path, SPEC, {"kind": "any", "label_names": ["x"]}) as writer:
        # Clients interleaved, as they come in a file.
        for number in range(6):
            for client in CLIENTS:
                writer.add("train", client, example(number))
        writer.add("it's a split", "plain", example(9))
    return path


def assert_is_example(found, number):
    for name, value in example(number).items():
        np.testing.assert_array_equal(found[name].numpy(), value)
        assert found[name].dtype == SPEC[name].dtype


@pytest.mark.parametrize("client", CLIENTS)
def test_round_trip_in_order(path, client):
    dataset = SqliteClientData(path, "train").create_tf_dataset_for_client(client)
    assert dataset.element_spec == SPEC
    found = list(dataset)
    assert len(found) == 6
    for number, one in enumerate(found):
        assert_is_example(one, number)


def test_it_is_tff_client_data(path):
    data = SqliteClientData(path, "train")
    assert isinstance(data, tff.simulation.datasets.ClientData)
    assert data.client_ids == sorted(CLIENTS)
    assert data.element_type_structure == SPEC
    assert data.sizes() == dict.fromkeys(sorted(CLIENTS), 6)
    assert data.num_examples("O'Brien") == 6
    batched = data.preprocess(lambda dataset: dataset.padded_batch(4))
    shapes = [tuple(b["input_ids"].shape) for b in batched.create_tf_dataset_for_client("plain")]
    assert shapes == [(4, 3), (2, 5)]
    assert sum(1 for _ in data.create_tf_dataset_from_all_clients()) == 24


def test_splits_are_apart(path):
    data = SqliteClientData(path, "it's a split")
    assert data.client_ids == ["plain"]
    (found,) = data.create_tf_dataset_for_client("plain")
    assert_is_example(found, 9)


def test_an_unknown_client_is_refused(path):
    with pytest.raises(ValueError, match="'nobody' is not a client"):
        SqliteClientData(path, "train").create_tf_dataset_for_client("nobody")


def test_it_pickles(path):
    data = pickle.loads(pickle.dumps(SqliteClientData(path, "train")))
    assert len(list(data.create_tf_dataset_for_client("O'Brien"))) == 6
    assert len(pickle.dumps(data)) < 1000


def test_in_a_graph_the_client_is_a_tensor(path):
    make = SqliteClientData(path, "train").serializable_dataset_fn

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def total(client):
        return make(client).reduce(0, lambda s, e: s + tf.size(e["input_ids"]) + e["label"] * 100)

    for client in CLIENTS:
        assert int(total(tf.constant(client))) == 15 - 1500


@pytest.mark.usefixtures("no_worker_left")
def test_in_tffs_worker(path):
    data = SqliteClientData(path, "train")

    @tff.tensorflow.computation(np.str_)
    def labels(client):
        dataset = data.serializable_dataset_fn(client)
        return dataset.reduce(0, lambda state, e: state * 10 - e["label"])

    assert data.dataset_computation.type_signature.result.element.input_ids.shape == (None,)
    assert labels("Łukasz 'x' \"y\"".encode()) == 12345


def test_tffs_own_class_reads_it(path):
    spec = {"label": SPEC["label"]}
    data = tff.simulation.datasets.load_and_parse_sql_client_data(path, spec, "train")
    assert data.client_ids == sorted(CLIENTS)
    labels = [int(e["label"]) for e in data.create_tf_dataset_for_client("plain")]
    assert labels == [0, -1, -2, -3, -4, -5]


def test_it_opens_where_nothing_can_be_written(path):
    directory = os.path.dirname(path)
    os.chmod(path, 0o444)
    os.chmod(directory, 0o555)
    try:
        data = SqliteClientData(path, "train")
        assert len(list(data.create_tf_dataset_for_client("plain"))) == 6
    finally:
        os.chmod(directory, 0o755)


def test_clients_are_found_by_an_index(path):
    with sqlite3.connect(path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT serialized_example_proto FROM examples "
            "WHERE split_name = 'train' AND client_id = 'plain' ORDER BY rowid"
        ).fetchall()
    assert len(plan) == 1
    assert "USING INDEX examples_by_client" in plan[0][3]


def test_many_clients(tmp_path):
    path = str(tmp_path / "many.sqlite")
    spec = {"label": tf.TensorSpec([], tf.int32)}
    with StoreWriter(path, spec, {}) as writer:
        for number in range(20_000):
            writer.add("train", f"client {number:05d}", {"label": number})
    data = SqliteClientData(path, "train")
    assert len(data.client_ids) == 20_000
    (found,) = data.create_tf_dataset_for_client("client 12345")
    assert int(found["label"]) == 12345


def test_nothing_half_written_has_the_name(tmp_path):
    path = str(tmp_path / "x.sqlite")

    def fail():
        with StoreWriter(path, SPEC, {}) as writer:
            writer.add("train", "a", example(1))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_does_not_hinder(tmp_path):
    path = str(tmp_path / "x.sqlite")
    with open(path + ".tmp", "wb") as scratch:
        scratch.write(b"half")
    with StoreWriter(path, SPEC, {}) as writer:
        writer.add("train", "a", example(1))
    assert SqliteClientData(path, "train").client_ids == ["a"]
    assert os.listdir(tmp_path) == ["x.sqlite"]


def test_a_changed_bit_anywhere_is_noticed(tmp_path):
    path = tmp_path / "x.sqlite"
    with StoreWriter(str(path), SPEC, {}) as writer:
        writer.add("train", "a", example(1))
    assert store.is_whole(str(path))
    content = path.read_bytes()
    for position in (0, 30, 60, 63, 64, 5000, len(content) - 1):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert not store.is_whole(str(path))
    for size in (0, 50, len(content) - 1):
        path.write_bytes(content[:size])
        assert not store.is_whole(str(path))


def test_what_is_no_store_is_refused(tmp_path):
    text = tmp_path / "text.sqlite"
    text.write_text("no database " * 100)
    with pytest.raises(UserError, match=r"text\.sqlite: not a data store.*delete"):
        SqliteClientData(str(text), "train")
    with pytest.raises(UserError, match=r"gone\.sqlite: there is no such file"):
        SqliteClientData(str(tmp_path / "gone.sqlite"), "train")


def test_another_format_version_is_refused(tmp_path, monkeypatch):
    path = str(tmp_path / "old.sqlite")
    with StoreWriter(path, SPEC, {}) as writer:
        writer.add("train", "a", example(1))
    monkeypatch.setattr(store, "FORMAT_VERSION", 99)
    with pytest.raises(UserError, match="has format 2, this version reads 99; delete"):
        SqliteClientData(path, "train")


def test_a_missing_split_is_refused(path):
    with pytest.raises(UserError, match="no split 'nope'.*train"):
        SqliteClientData(path, "nope")


def test_an_unwritable_place_is_told():
    with pytest.raises(UserError, match=r"data\.cache_dir: cannot write to /proc"):
        StoreWriter("/proc/none/x.sqlite", SPEC, {}).__enter__()


def test_a_shape_that_cannot_be_stored_is_refused(tmp_path):
    spec = {"x": tf.TensorSpec([None, 3], tf.float32)}
    with pytest.raises(ValueError, match="'x' has shape"):
        StoreWriter(str(tmp_path / "x"), spec, {})
