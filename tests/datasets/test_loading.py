"""From files to encoded clients: dealing, splits, labels and the cache together."""

import collections
import dataclasses
import multiprocessing
import os
import pathlib
import stat

import numpy as np
import pytest
import transformers

from tests.shared_data import shared_file
from tff_tx import datasets
from tff_tx.core import files
from tff_tx.datasets import DataSpec

CLIENTS = 12


@pytest.fixture
def spec(tmp_path):
    """240 texts "n", label n % 4, owner n % 12."""
    path = tmp_path / "x.csv"
    path.write_text("text,label,who\n" + "".join(f"{n},l{n % 4},w{n % CLIENTS}\n" for n in range(240)))
    return DataSpec("file", files=(str(path),), cache_dir=str(tmp_path / "cache"))


def load(spec):
    tokenizer = transformers.ByT5Tokenizer(extra_ids=0)
    names = datasets.label_names(spec)
    return datasets.load(spec, datasets.SequenceClassificationEncoder(tokenizer, names, 16))


def contents(part):
    """Client -> its (number, label) pairs."""
    return {
        client: [
            (int(bytes(e["input_ids"].numpy()[:-1].astype("uint8") - 3)), int(e["label"]))
            for e in part.create_tf_dataset_for_client(client)
        ]
        for client in part.client_ids
    }


def everything(data):
    parts = [part for part in (data.train, data.validation, data.test) if part is not None]
    return sorted(pair for part in parts for pairs in contents(part).values() for pair in pairs)


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards", "power_law", "column"])
@pytest.mark.parametrize("split", ["client", "within_client", "example"])
def test_every_record_goes_to_one_client_of_one_split(spec, partition, split):
    settings = {"partition": partition, "split": split, "seed": 5}
    if partition == "column":
        settings["client_column"] = "who"
    else:
        settings["num_clients"] = 10
    data = load(dataclasses.replace(spec, validation_fraction=0.2, test_fraction=0.2, **settings))
    assert everything(data) == [(number, number % 4) for number in range(240)]
    train, test = set(data.train.client_ids), set(data.test.client_ids)
    assert train
    assert test
    if split == "client" or (split == "example" and partition != "column"):
        assert not train & test
    else:
        assert test <= train


def test_columns_keep_owners_and_order(spec):
    data = load(dataclasses.replace(spec, client_column="who", test_fraction=3))
    assert data.summary() == {"train": {"clients": 9, "examples": 180}, "test": {"clients": 3, "examples": 60}}
    for part in (data.train, data.test):
        for client, pairs in contents(part).items():
            numbers = [number for number, _ in pairs]
            assert numbers == list(range(int(client[1:]), 240, CLIENTS))


def test_fewer_clients_than_there_are(spec):
    data = load(dataclasses.replace(spec, client_column="who", num_clients=4, test_fraction=0))
    assert data.summary() == {"train": {"clients": 4, "examples": 80}}
    assert data.test is None


def test_a_limit_on_training_clients_only(spec):
    limited = dataclasses.replace(spec, client_column="who", max_train_examples_per_client=7, test_fraction=3)
    data = load(limited)
    assert set(data.train.sizes().values()) == {7}
    assert set(data.test.sizes().values()) == {20}


def test_named_files_are_the_splits(spec, tmp_path):
    for name in ("validation", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{n},l1\n" for n in range(48)))
    named = dataclasses.replace(
        spec,
        num_clients=10,
        validation_files=(str(tmp_path / "validation.csv"),),
        test_files=(str(tmp_path / "test.csv"),),
    )
    # Clients of the size of the training clients: 240 / 10 = 48 / 2.
    assert load(named).summary() == {
        "train": {"clients": 10, "examples": 240},
        "validation": {"clients": 2, "examples": 48},
        "test": {"clients": 2, "examples": 48},
    }


def test_label_names(spec, tmp_path):
    assert datasets.label_names(spec) == ("l0", "l1", "l2", "l3")
    named = dataclasses.replace(spec, label_names=("l3", "l2", "l1", "l0"))
    assert load(named).label_names == ("l3", "l2", "l1", "l0")
    assert everything(load(named))[0] == (0, 3)
    for name, content, names in (
        ("n.csv", "text,label\na,10\nb,9\nc,-1\nd,x\n", ("-1", "9", "10", "x")),
        ("t.conll", "a I-X\nb O\nc B-Y\nd B-X\n", ("O", "B-X", "I-X", "B-Y")),
    ):
        (tmp_path / name).write_text(content)
        other = DataSpec("file", files=(str(tmp_path / name),), cache_dir=str(tmp_path))
        assert datasets.label_names(other) == names


def test_the_seed_decides(spec):
    first, other = (load(dataclasses.replace(spec, num_clients=10, seed=s)) for s in (0, 1))
    assert contents(first.train) != contents(other.train)
    os.remove(first.path)
    assert contents(load(dataclasses.replace(spec, num_clients=10)).train) == contents(first.train)


def test_the_cache_goes_by_content(spec, tmp_path):
    first = load(spec)
    moved = tmp_path / "elsewhere.csv"
    os.rename(spec.files[0], moved)
    again = dataclasses.replace(spec, files=(str(moved),))
    assert load(again).path == first.path
    assert load(dataclasses.replace(again, test_fraction=0.2)).path != first.path
    with open(moved, "a") as file:
        file.write("240,l0,w0\n")
    changed = load(again)
    assert changed.path != first.path
    assert sum(part["examples"] for part in changed.summary().values()) == 241


def test_what_other_code_has_read_is_read_again(spec, tmp_path, monkeypatch):
    (tmp_path / "reader.py").write_text("CODE = 1")
    before = {load(spec).path, files.code_digest(str(tmp_path))}
    files.code_digest.cache_clear()
    (tmp_path / "reader.py").write_text("CODE = 2")
    after = files.code_digest(str(tmp_path))
    monkeypatch.setattr(files, "code_digest", lambda directory: after)
    assert not before & {load(spec).path, after}
    assert len([name for name in os.listdir(spec.cache_dir) if name.endswith(".survey.npz")]) == 2


@pytest.mark.slow
def test_two_runs_at_once(spec):
    # Spawned, as TensorFlow does not survive a fork.
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = pool.map(_load_path, [spec, spec])
    assert paths[0] == paths[1]
    assert everything(datasets.open_store(paths[0])) == [(n, n % 4) for n in range(240)]
    assert [name for name in os.listdir(spec.cache_dir) if name.endswith(".tmp")] == []


def _load_path(spec):
    return load(spec).path


def test_the_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets.default_cache_dir() == str(tmp_path / "tff_tx")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert datasets.default_cache_dir() == "/home/x/.cache/tff_tx"


def test_image_shapes():
    from tff_tx.datasets.surveys import channels_height_width as shape_of

    shapes = [(784,), (3072,), (28, 28), (3, 32, 30), (32, 30, 3), (1, 8, 8)]
    assert [shape_of(shape) for shape in shapes] == [
        (1, 28, 28),
        (3, 32, 32),
        (1, 28, 28),
        (3, 32, 30),
        (3, 32, 30),
        (1, 8, 8),
    ]


def test_ag_news(tmp_path, minilm):
    spec = DataSpec(
        "file",
        files=(shared_file("ag_news/ag_news_7600.csv"),),
        columns=("label", "title", "text"),
        text_column=("title", "text"),
        partition="dirichlet",
        num_clients=100,
        test_fraction=1600,
        cache_dir=str(tmp_path),
    )
    names = datasets.label_names(spec)
    assert names == ("1", "2", "3", "4")
    data = datasets.load(spec, datasets.SequenceClassificationEncoder(minilm, names, 64))
    assert data.summary()["train"] == {"clients": 100, "examples": 6000}
    assert data.summary()["test"]["examples"] == 1600


@pytest.mark.slow
def test_ncbi_disease(tmp_path, minilm):
    spec = DataSpec(
        "file",
        files=(shared_file("ncbi_disease/train.tsv"),),
        validation_files=(shared_file("ncbi_disease/devel.tsv"),),
        test_files=(shared_file("ncbi_disease/test.tsv"),),
        format="conll",
        num_clients=20,
        cache_dir=str(tmp_path),
    )
    names = datasets.label_names(spec)
    assert names == ("O", "B-Disease", "I-Disease")
    data = datasets.load(spec, datasets.TokenClassificationEncoder(minilm, names, 128))
    counts = collections.Counter()
    for client in data.test.client_ids:
        for example in data.test.create_tf_dataset_for_client(client):
            counts.update(example["labels"].numpy().tolist())
    with open(spec.test_files[0], encoding="utf-8") as file:
        tags = collections.Counter(line.split("\t")[1].strip() for line in file if line.strip())
    assert {name: counts[number] for number, name in enumerate(names)} == dict(tags)


def test_a_damaged_store_and_a_damaged_survey_are_made_again(spec, caplog):
    """A changed bit in a text would otherwise be trained on."""
    path = pathlib.Path(load(spec).path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir() if p.suffix != ".lock"} == {0o600}
    expected = path.read_bytes()
    place = expected.index(b"input_ids") + 20
    path.write_bytes(expected[:place] + bytes([expected[place] ^ 1]) + expected[place + 1 :])
    (survey,) = path.parent.glob("*.survey.npz")
    survey.write_bytes(survey.read_bytes()[:-9])
    load(spec)
    assert path.read_bytes() == expected
    assert f"{path} is damaged: the data are encoded again" in caplog.text
    caplog.clear()
    load(spec)
    assert caplog.text == ""


@pytest.mark.parametrize("start", range(3))
def test_no_changed_byte_of_a_survey_gives_another_survey(spec, start):
    expected = vars(datasets.survey(spec).pools["train"])
    (path,) = pathlib.Path(spec.cache_dir).glob("*.survey.npz")
    content = path.read_bytes()
    for position in range(start, len(content), 29):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        found = vars(datasets.survey(spec).pools["train"])
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], value) for name, value in expected.items())
