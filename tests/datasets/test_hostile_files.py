"""Files that are made to harm, or that nobody has thought of: a sentence within seconds, in bounded memory."""

import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time

import h5py
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from tests.processes import ROOT
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.readers import limits
from tff_tx.datasets.sources import open_source

BOTH = frozenset({"text", "label"})


def read(*paths, wants=BOTH, **settings):
    source = open_source(DataSpec("file", files=tuple(map(str, paths)), **settings))
    source.digest("train")
    return [chunk for chunk in source.pools["train"](wants)]


def complaint(*paths, **settings):
    with pytest.raises(UserError) as error:
        read(*paths, **settings)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert len(sentence) < 3000
    return sentence


def test_pipes_devices_and_links_to_nowhere(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert "this is a pipe" in complaint(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    assert "this is a device" in complaint(tmp_path / "zero.csv")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s.csv"))
        assert "this is a socket" in complaint(tmp_path / "s.csv")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert "No such file" in complaint(folder)
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    assert "Too many levels of symbolic links" in complaint(tmp_path / "loop.csv")


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.sqlite", "50%41#x.sqlite", "[.parquet"])
def test_names_that_look_like_patterns(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".csv"):
        path.write_text("text,label\na,b\n")
    elif name.endswith(".parquet"):
        parquet.write_table(pyarrow.table({"text": ["a"], "label": ["b"]}), path)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE client_metadata (client_id, split_name, num_examples)")
            connection.execute("CREATE TABLE examples (split_name, client_id, serialized_example_proto)")
            connection.execute("INSERT INTO client_metadata VALUES ('c', 'train', 1)")
        assert "the file has no record" in complaint(path)
        return
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"text": "a", "label": "b", "who": "x\0a"}], r"'who' has 'x\x00a', which is no id of a client"),
        ([{"text": "a", "label": "b", "who": "\ud800"}], r"'who' has '\ud800', which is no id of a client"),
        ([{"text": "a\udfff", "label": "b", "who": "c"}], r"'text' has 'a\udfff', which is no text"),
        ([{"text": "a", "label": "\ud800", "who": "c"}], r"'label' has '\ud800', which is no single value"),
    ],
)
def test_ids_and_texts_that_nothing_can_hold(tmp_path, rows, told):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert told in complaint(path, client_column="who", wants=BOTH | {"client"})


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("x.jsonl", f'{{"text": {DEEP}, "label": "b"}}', {}),
        ("x.jsonl", f'{{"text": {"[" * 900 + "]" * 900}, "label": "b"}}', {}),
        ("x.jsonl", f'{{"text": {"9" * 5000}, "label": "b"}}', {}),
        ("x.jsonl", '{"text": {"bytes": 3}, "label": "b"}', {"text_column": ("text",), "wants": {"pixels"}}),
        ("x.json", DEEP, {}),
        ("x.json", '{"users": [[1]], "user_data": {}}', {}),
        ("x.json", '{"users": ["a"], "user_data": [1]}', {}),
        (
            "x.json",
            '{"users": ["a"], "user_data": {"a": {"x": [[1], [[2]], [1, [3]]], "y": 1}}}',
            {"wants": {"pixels"}},
        ),
        ("x.json", '{"users": 3, "user_data": {}}', {}),
        ("x.json", '{"users": ["a"], "user_data": {"a": {"x": 3}}}', {}),
        ("x.json", DEEP, {"format": "squad"}),
        ("x.json", '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": 3}]}]}]}', {}),
        ("x.json", '{"data": {"a": 3}}', {"format": "squad"}),
        ("x.csv", "number,label\n1e400,b\n", {"numeric_columns": ("number",), "wants": {"numbers"}}),
    ],
)
def test_values_of_any_depth_length_and_type(tmp_path, name, content, settings):
    (tmp_path / name).write_text(content)
    wants = frozenset(settings.pop("wants", {"question", "context", "answers"} if "format" in settings else BOTH))
    complaint(tmp_path / name, wants=wants, **settings)


def test_numbers_that_are_too_large(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"number": 10**400, "label": "b"}))
    assert "finite number" in complaint(tmp_path / "x.jsonl", numeric_columns=("number",), wants={"numbers"})


def repeated(length, times):
    """A text of a length, so many times, which Arrow and Parquet store once."""
    return pyarrow.DictionaryArray.from_arrays(np.zeros(times, np.int32), pyarrow.array(["x" * length]))


def texts_bomb(path):
    """Less than a kilobyte that holds 1.5 GB."""
    table = pyarrow.table({"text": repeated(1_500_000, 1000), "label": repeated(1, 1000)})
    parquet.write_table(table, path, compression="zstd", store_schema=False)
    assert os.path.getsize(path) < 1000


def nested_bomb(path):
    words = pyarrow.ListArray.from_arrays(np.array([0, 200_000], np.int32), repeated(5000, 200_000))
    parquet.write_table(pyarrow.table({"text": words, "label": ["a"]}), path, compression="zstd", store_schema=False)


def rows_bomb(path):
    parquet.write_table(pyarrow.table({"text": pyarrow.nulls(10**8, pyarrow.int8())}), path)


def hdf5_bomb(path):
    with h5py.File(path, "w") as file:
        for name, shape in (("text", (2, 10**12)), ("label", (2,))):
            file.create_dataset(f"examples/c/{name}", shape, chunks=True, compression="gzip")


def long_hdf5_bomb(path):
    with h5py.File(path, "w") as file:
        for name in ("text", "label"):
            file.create_dataset(f"examples/c/{name}", (10**13,), chunks=True, compression="gzip")


def picture_bomb(path):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros([12_000, 12_000], np.uint8)).save(buffer, "png", optimize=True)
    parquet.write_table(pyarrow.table({"image": [buffer.getvalue()] * 500, "label": ["a"] * 500}), path)


def columns_of(path):
    path.write_text(",".join(f"c{n}" for n in range(50_000)) + "\n" + ",".join("1" * 50_000) + "\n")


def query_for_ever(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE client_metadata (client_id, split_name, num_examples)")
        counted = (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT '' s, x c, x p FROM n WHERE x < 0"
        )
        connection.execute(f"CREATE VIEW examples (split_name, client_id, serialized_example_proto) AS {counted}")


BOMBS = [
    (texts_bomb, "x.parquet", "bytes become"),
    (nested_bomb, "x.parquet", "bytes become"),
    (rows_bomb, "x.parquet", "bytes become"),
    (hdf5_bomb, "x.h5", "bytes become"),
    (long_hdf5_bomb, "x.h5", "bytes become"),
    (picture_bomb, "x.parquet", "bytes become"),
    (columns_of, "x.csv", "(50000 in all)"),
    (query_for_ever, "x.sqlite", "examples is no table"),
]
MEASURED = """
import resource, sys, time
from tests.datasets.test_hostile_files import BOMBS, complaint
import tff_tx.datasets.readers.files, pandas, h5py, pyarrow.parquet

resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
for path, (make, name, told), wants in zip(sys.argv[1:], BOMBS, [{"text", "label"}] * 5 + [{"pixels"}] * 4):
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sentence = complaint(path, wants=frozenset(wants))
    assert told in sentence, sentence
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(make.__name__, round(time.process_time() - started, 1), "s", round(more), "MB")
    assert time.process_time() - started < 10, name
    assert more < 800, (name, more)
"""


def test_bombs_are_refused_in_seconds_and_bounded_memory(tmp_path):
    paths = []
    for number, (make, name, _) in enumerate(BOMBS):
        paths.append(tmp_path / str(number) / name)
        paths[-1].parent.mkdir()
        make(paths[-1])
    found = subprocess.run([sys.executable, "-c", MEASURED, *paths], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:] + found.stdout
    print(found.stdout)


@pytest.mark.slow
def test_ten_thousand_files_take_no_quadratic_time(tmp_path):
    def seconds(folder, number):
        folder.mkdir()
        for name in range(number):
            (folder / f"{name}.txt").write_bytes(b"a")
        started = time.process_time()
        open_source(DataSpec("file", files=(str(folder),)))
        return time.process_time() - started

    few = seconds(tmp_path / "few", 2_000)
    assert seconds(tmp_path / "many", 10_000) < 12 * few  # 5 times as much, or 25 if quadratic


def test_long_rows_come_in_small_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CHUNK_BYTES", 1000)
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"text": "x" * 300, "label": n}) for n in range(20)))
    found = read(tmp_path / "x.jsonl")
    assert [len(chunk) for chunk in found] == [4] * 5
    assert [label for chunk in found for label in chunk["label"]] == list(map(str, range(20)))
