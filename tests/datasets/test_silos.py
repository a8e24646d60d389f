"""Several silos' stores as one ClientData, each in a directory of its own."""

import dataclasses
import sqlite3

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError

ROWS = {"north": ["a,0,cold", "b,1,warm", "a,1,mild"], "south": ["a,1,hot", "c,0,icy"]}


@pytest.fixture(scope="module")
def encoder():
    return datasets.SequenceClassificationEncoder(models.load_tokenizer("bytes"), ("0", "1"), 8)


@pytest.fixture
def spec(tmp_path):
    for silo, rows in ROWS.items():
        (tmp_path / silo).mkdir()
        (tmp_path / silo / "notes.csv").write_text("\n".join(["who,label,text", *rows]) + "\n")
    (tmp_path / "test.csv").write_text("who,label,text\nz,0,cool\n")
    return datasets.DataSpec(
        "file",
        files=(f"{tmp_path}/{{silo}}/notes.csv",),
        client_column="who",
        test_files=(f"{tmp_path}/test.csv",),
        cache_dir=f"{tmp_path}/{{silo}}/cache",
    )


@pytest.fixture
def listings(spec, encoder):
    return {silo: datasets.load_silo(silo, spec, encoder) for silo in ROWS}


def texts(data, client):
    tokens = [example["input_ids"].numpy() for example in data.serializable_dataset_fn(tf.constant(client))]
    return ["".join(chr(t - 3) for t in ids if t > 2) for ids in tokens]


def test_clients_are_those_of_all_silos_with_what_each_has(listings):
    data = datasets.SiloClientData(listings)
    assert data.sizes() == {"north/a": 2, "north/b": 1, "south/a": 1, "south/c": 1}
    assert data.client_ids == list(data.sizes())
    assert texts(data, "north/a") == ["cold", "mild"]
    assert texts(data, "south/a") == ["hot"]
    assert datasets.silo_of("south/a") == "south"
    store = datasets.SqliteClientData(listings["north"].path, "train")
    assert data.example_bytes()["north/a"] == store.example_bytes()["a"]
    assert data.element_type_structure == store.element_type_structure


def test_length_is_the_mean_of_what_is_stored(listings):
    """By hand from the store's rows."""
    with sqlite3.connect(listings["north"].path) as connection:
        rows = connection.execute("SELECT client_id, serialized_example_proto FROM examples").fetchall()
    expected = {c: np.mean([len(proto) for client, proto in rows if client == c]) for c in ("a", "b")}
    assert listings["north"].example_bytes == pytest.approx(expected)


def test_functions_get_a_silos_own_files(spec):
    assert datasets.in_silo("north", datasets.label_names, spec) == ("0", "1")
    assert datasets.in_silo("south", lambda own, *rest: (own.files, own.test_files, rest), spec, 1) == (
        (spec.files[0].replace("{silo}", "south"),),
        (),
        (1,),
    )


def test_each_store_lies_with_its_silo_and_nothing_is_held_out(listings, tmp_path):
    for silo, listing in listings.items():
        assert listing.path.startswith(f"{tmp_path}/{silo}/cache/")
        assert sum(listing.sizes.values()) == len(ROWS[silo])


def test_held_out_files_are_read_here(listings, spec, encoder, tmp_path):
    here = dataclasses.replace(spec, cache_dir=str(tmp_path / "here"))
    joined = datasets.join_silos(listings, here, encoder)
    assert joined.test.sizes() == {"z": 1}
    assert joined.validation is None
    assert joined.label_names == ("0", "1")


def test_what_is_wrong_is_told_with_the_silo(listings, spec, encoder):
    with pytest.raises(UserError, match="silo east: "):
        datasets.load_silo("east", spec, encoder)
    with pytest.raises(UserError, match="name without /"):
        datasets.SiloClientData({"a/b": listings["north"]})
    other = dataclasses.replace(listings["south"], element_spec={"label": tf.TensorSpec([], tf.int32)})
    with pytest.raises(UserError, match="the silos north and south store different examples"):
        datasets.SiloClientData({"north": listings["north"], "south": other})
    with pytest.raises(ValueError, match="is not a client of the silos"):
        datasets.SiloClientData(listings).create_tf_dataset_for_client("north/z")
