"""The data sets that need no file."""

import os
import sysconfig

import numpy as np
import pytest

from tff_tx import datasets
from tff_tx.datasets import DataSpec, LanguageModelingEncoder, SqliteClientData
from tff_tx.datasets.sources import open_source


def chunks_of(name):
    source = open_source(DataSpec(name))
    return list(source.pools["train"](source.columns()))


def test_stdlib_is_the_library_and_no_tests():
    modules = [row for chunk in chunks_of("stdlib") for row in chunk.itertuples()]
    names = [row.client for row in modules]
    assert len(names) == len(set(names)) > 400
    assert {"os", "json.decoder", "asyncio", "email.message"} <= set(names)
    assert not [name for name in names if {"test", "tests", "idlelib"} & set(name.split("."))]
    assert 8e6 < sum(len(row.text.encode()) for row in modules) < 16e6
    os_module = modules[names.index("os")]
    with open(os.path.join(sysconfig.get_path("stdlib"), "os.py"), encoding="utf-8") as file:
        assert os_module.text == file.read()


def test_stdlib_comes_in_chunks_and_in_order():
    first = [chunk["client"].tolist() for chunk in chunks_of("stdlib")]
    again = [chunk["client"].tolist() for chunk in chunks_of("stdlib")]
    assert first == again
    assert len(first) > 5
    assert datasets.survey(DataSpec()).digest == datasets.survey(DataSpec()).digest


def test_digits():
    chunks = chunks_of("digits")
    pixels = np.stack([image for chunk in chunks for image in chunk["pixels"]])
    assert pixels.shape == (1797, 1, 8, 8)
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (0.0, 1.0)
    labels = np.concatenate([chunk["label"] for chunk in chunks])
    assert np.unique(labels).tolist() == list("0123456789")


def test_loading_digits(tmp_path):
    spec = DataSpec("digits", partition="dirichlet", num_clients=30, dirichlet_alpha=0.5, cache_dir=str(tmp_path))
    names = datasets.label_names(spec)
    shape = datasets.image_shape(spec)
    assert (names, shape) == (tuple("0123456789"), (1, 8, 8))
    data = datasets.load(spec, datasets.ImageClassificationEncoder(names, shape))
    assert data.summary() == {"train": {"clients": 30, "examples": 1617}, "test": {"clients": 3, "examples": 180}}
    assert data.validation is None
    assert (data.kind, data.label_names) == ("image_classification", names)
    assert not set(data.train.client_ids) & set(data.test.client_ids)


@pytest.fixture(scope="module")
def stdlib_spec(tmp_path_factory):
    return DataSpec(num_clients=20, cache_dir=str(tmp_path_factory.mktemp("cache")), seed=3)


def test_loading_stdlib(stdlib_spec, byte_tokenizer):
    data = datasets.load(stdlib_spec, LanguageModelingEncoder(byte_tokenizer, 65))
    assert {name: part["clients"] for name, part in data.summary().items()} == {"train": 18, "test": 2}
    texts = {row.client: row.text for chunk in chunks_of("stdlib") for row in chunk.itertuples()}
    for part in (data.train, data.test):
        client = min(part.client_ids, key=part.num_examples)
        blocks = [e["input_ids"].numpy() for e in part.create_tf_dataset_for_client(client)]
        assert byte_tokenizer.decode(np.concatenate(blocks)) == texts[client] + "</s>"
        assert [len(block) for block in blocks[:-1]] == [65] * (len(blocks) - 1)


def test_the_second_load_opens_the_first_ones_store(stdlib_spec, byte_tokenizer, monkeypatch):
    encoder = LanguageModelingEncoder(byte_tokenizer, 65)
    first = datasets.load(stdlib_spec, encoder)
    written = os.stat(first.path).st_mtime_ns
    monkeypatch.setattr(encoder, "stream", None)  # to encode again would fail
    again = datasets.load(stdlib_spec, encoder)
    assert again.path == first.path
    assert os.stat(again.path).st_mtime_ns == written
    assert datasets.open_store(first.path).summary() == first.summary()
    assert SqliteClientData(first.path, "train").client_ids == first.train.client_ids
