"""Rows that cannot be read are an error, or skipped and counted, by every pass alike."""

import json

import h5py
import pytest

from tff_tx.config import RunConfig, check
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec, TabularClassificationEncoder, load, survey
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.surveys import Features

SKIP = {"on_bad_rows": "skip"}
FILES = {
    # name: (content, settings, the texts that are left, what is wrong with the first that is not)
    "x.csv": (
        b'text,label\na,x\nb\nc,\n"d"d,x\ne,\xff\nf,y\ng,z,z\n,y\n',
        {},
        ["a", "f", ""],
        "line 3: 1 fields where the first line has 2",
    ),
    "x.jsonl": (
        b'{"text": null, "label": 0}\n{"text": "a", "label": 1}\n{"text"\n[]\n{"text": "b"}\n{"text": "c", "label": 2}',
        {},
        ["a", "c"],
        "line 1: the column 'text' has no value",
    ),
    "y.jsonl": (
        b'{"text": "a", "label": 1, "size": "4"}\n{"text": "b", "label": 1, "size": "many"}',
        {"numeric_columns": ("size",)},
        ["a"],
        "line 2: the column 'size' has 'many'",
    ),
    "x.txt": (b"Ann:\nHi.\n\nHello.\n", {"format": "dialogue"}, ["Hi."], "line 4: 'Hello.' opens a turn"),
}


@pytest.mark.parametrize("name", FILES)
def test_skipped_rows(tmp_path, name):
    content, settings, texts, first = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    spec = DataSpec("file", files=(str(path),), cache_dir=str(tmp_path / "cache"), **settings, **SKIP)
    found = survey(spec)
    # Each pass reads other columns, and must leave out the same rows: they are dealt by their number.
    columns = found.pools["train"].columns
    for wants in ({"text"}, columns):
        chunks = list(open_source(spec).pools["train"](wants))
        assert [text for chunk in chunks for text in chunk["text"]] == texts
    assert found.pools["train"].num_rows == len(texts)
    for again in (found, survey(spec)):
        number = again.pools["train"].rows_left_out
        assert f"{number} of {number + len(texts)} rows of the train data are skipped" in again.notes[-1]
        assert first in again.notes[-1]
    with pytest.raises(UserError, match="line"):
        list(open_source(DataSpec("file", files=(str(path),), **settings)).pools["train"](columns))


def test_a_sentence_with_a_bad_line_is_skipped(tmp_path):
    (tmp_path / "x.conll").write_text("a O\nb\n\nc O\n")
    chunks = open_source(DataSpec("file", files=(str(tmp_path / "x.conll"),), **SKIP)).pools["train"](["tokens"])
    assert next(chunks)["tokens"].tolist() == [["c"]]


def test_a_file_without_any_good_row_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\na\nb\n")
    with pytest.raises(UserError, match=r"x\.csv: none of its rows can be used, such as: .*line 3: 1 fields"):
        survey(DataSpec("file", files=(str(tmp_path / "x.csv"),), cache_dir=str(tmp_path), **SKIP))


def test_clients_without_an_example_are_left_out_and_counted(tmp_path):
    users = {"u": {"x": ["t"], "y": ["l"]}, "v": {"x": [], "y": []}}
    (tmp_path / "x.json").write_text(json.dumps({"users": ["u", "v", "w"], "user_data": users}))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("examples/v")
        file.create_group("examples/u")["text"] = ["a"]
    for name, number in (("x.json", 2), ("x.h5", 1)):
        found = survey(DataSpec("file", files=(str(tmp_path / name),), cache_dir=str(tmp_path)))
        assert found.pools["train"].client_ids == ("u",)
        assert found.notes[-1] == f"{number} clients of the train data have no example, and are left out."


def test_private_runs_do_not_say_what_they_skip():
    data = {
        "data.dataset": "file",
        "data.files": ("x.csv",),
        "data.on_bad_rows": "skip",
        "data.label_names": ("a", "b"),
    }
    private = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0, "privacy.population": 1000}
    task = {"task.kind": "sequence_classification", "model.pretrained": "x"}
    check(RunConfig.of({**data, **task}))
    with pytest.raises(UserError, match="cannot find out which rows cannot be read"):
        check(RunConfig.of({**data, **task, **private}))


def test_rows_that_an_encoder_rejects_are_skipped_and_counted(tmp_path):
    rows = [{"size": n, "label": "ab"[n % 2], "client": "xxyz"[n]} for n in range(4)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"files": (str(tmp_path / "x.jsonl"),), "numeric_columns": ("size",), "client_column": "client"}
    settings |= {"test_fraction": 0.0, "cache_dir": str(tmp_path / "cache")}
    encoder = TabularClassificationEncoder(("a",), Features(("size",), (), ()))
    loaded = load(DataSpec("file", **settings, **SKIP), encoder)
    assert loaded.train.sizes() == {"x": 1, "y": 1}
    assert "2 more rows cannot be used and are skipped, the first: " in loaded.notes[0]
    assert "line 2: the label 'b' is not one of the 1 known labels" in loaded.notes[0]
    assert "1 train clients have too few records" in loaded.notes[1]
    with pytest.raises(UserError, match="line 2: the label 'b' is not one of"):
        load(DataSpec("file", **settings), encoder)
