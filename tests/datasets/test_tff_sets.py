"""TFF's own data sets: its real loaders on small files in their format, as if downloaded before."""

import collections
import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.sources import open_source


def write(directory, name, element, splits):
    """A file as TFF's own writer makes it, with two clients of three examples in each split."""
    clients = {f"{split}_{number}": split for split in splits for number in range(2)}

    def dataset(client):
        rows = [element(client, number) for number in range(3)]
        spec = {name: tf.TensorSpec.from_tensor(tf.constant(v)) for name, v in rows[0].items()}
        return tf.data.Dataset.from_generator(lambda: rows, output_signature=spec)

    tff.simulation.datasets.save_to_sql_client_data(
        list(clients), dataset, os.path.join(directory, name), split_names_by_client_id=clients
    )


def shakespeare(client, number):
    return {"snippets": f"{client} says {number}, née".encode()}


def stackoverflow(client, number):
    texts = dict.fromkeys(("creation_date", "tags", "title", "type"), b"-")
    return {**texts, "score": np.int64(1), "tokens": f"{client} asks {number}".encode()}


def emnist(client, number):
    return {"label": np.int64(number), "pixels": np.full([28, 28], number / 4, np.float32)}


def cifar100(client, number):
    image = np.arange(32 * 32 * 3).reshape(32, 32, 3) % 256
    return {"coarse_label": np.int64(1), "label": np.int64(number), "image": image}


SETS = {
    "tff:shakespeare": ("shakespeare.sqlite", shakespeare, ("train", "test")),
    "tff:stackoverflow": ("stackoverflow.sqlite", stackoverflow, ("train", "heldout", "test")),
    "tff:emnist": ("emnist_all.sqlite", emnist, ("digits_only_train", "digits_only_test")),
    "tff:emnist_all": ("emnist_all.sqlite", emnist, ("all_train", "all_test")),
    "tff:cifar100": ("cifar100.sqlite", cifar100, ("train", "test")),
}


@pytest.fixture
def make(tmp_path):
    def make(name, **settings):
        file, element, splits = SETS[name]
        write(str(tmp_path), file, element, splits)
        return DataSpec(name, cache_dir=str(tmp_path), **settings)

    return make


@pytest.mark.parametrize("name", SETS)
def test_splits_and_clients_are_the_files_own(make, name):
    source = open_source(make(name))
    pools = ("train", "validation", "test") if len(SETS[name][2]) == 3 else ("train", "test")
    for pool, split in zip(pools, SETS[name][2]):
        (chunk,) = source.pools[pool](source.columns())
        counts = collections.Counter(chunk["client"])
        assert counts == {f"{split}_0": 3, f"{split}_1": 3}
    assert tuple(source.pools) == pools


@pytest.mark.parametrize(("name", "verb"), [("tff:shakespeare", "says"), ("tff:stackoverflow", "asks")])
def test_texts(make, name, verb, byte_tokenizer):
    spec = make(name)
    data = datasets.load(spec, datasets.LanguageModelingEncoder(byte_tokenizer, 1000))
    assert data.train.client_ids == ["train_0", "train_1"]
    (block,) = data.train.create_tf_dataset_for_client("train_1")
    text = byte_tokenizer.decode(block["input_ids"].numpy())
    assert text.startswith(f"train_1 {verb} 0")
    assert text.count("</s>") == 3


@pytest.mark.parametrize(
    ("name", "shape", "labels"),
    [("tff:emnist", (1, 28, 28), 10), ("tff:emnist_all", (1, 28, 28), 62), ("tff:cifar100", (3, 32, 32), 100)],
)
def test_images(make, name, shape, labels):
    spec = make(name)
    names = datasets.label_names(spec)
    assert (len(names), datasets.image_shape(spec)) == (labels, shape)
    data = datasets.load(spec, datasets.ImageClassificationEncoder(names, shape))
    examples = list(data.test.create_tf_dataset_for_client(data.test.client_ids[0]))
    assert [int(example["label"]) for example in examples] == [0, 1, 2]
    if name == "tff:cifar100":
        expected = cifar100("", 0)["image"].transpose(2, 0, 1) / 255
    else:
        expected = np.full(shape, 0.5)
    np.testing.assert_allclose(examples[2]["pixel_values"], expected, rtol=1e-6)


def test_a_column_that_is_not_there_is_refused(make):
    source = open_source(make("tff:shakespeare"))
    with pytest.raises(UserError, match=r"shakespeare\.sqlite has no label, only text"):
        next(source.pools["train"](frozenset(["text", "label"])))


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "shakespeare.sqlite").write_text("half a download" * 100)
    with pytest.raises(UserError, match=r"data\.dataset: .*shakespeare\.sqlite is damaged.*delete it"):
        open_source(DataSpec("tff:shakespeare", cache_dir=str(tmp_path)))


def test_no_network(tmp_path, monkeypatch):
    # A proxy that refuses every connection: the real loader runs into it.
    for variable in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    message = r"data\.dataset: shakespeare\.sqlite is not in .* cannot be downloaded .*; connect"
    with pytest.raises(UserError, match=message):
        open_source(DataSpec("tff:shakespeare", cache_dir=str(tmp_path)))
    assert os.listdir(tmp_path) == []
