"""Damaged files for readers: mutants of small good ones, and of those that a reader once failed at.

`python -m tests.datasets.fuzzing 10000 parquet` reads ten thousand mutants of Parquet files, and writes those that end
in anything but records or a sentence into `corpus/parquet`, from where all later runs start too.
"""

from __future__ import annotations

import faulthandler
import hashlib
import io
import json
import multiprocessing
import pathlib
import random
import resource
import sqlite3
import sys
import tempfile
import time
import warnings

from tff_tx.core.errors import UserError
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.spec import DataSpec

CORPUS = pathlib.Path(__file__).parent / "corpus"
_ROWS = [
    {"text": "wörd, one", "label": "a", "n": 1.5, "client": "x"},
    {"text": "two\n", "label": 2, "n": 3, "client": "y"},
]
_TOKENS = [
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"1e999",
    b"-1",
    b"\\ud800",
    b"\0",
    b"[" * 2000,
    b"9" * 5000,
    b"\xff\xfe",
    b'"',
    b"\n\n",
    b"\t",
]
_SECONDS, _BYTES = 10, 6 * 2**30


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    rows = [{**row, "label": "a", "n": 1.0, "image": {"bytes": _picture()}, "tags": ["O", "B"]} for row in _ROWS]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def _arrow() -> bytes:
    import pyarrow

    file, table = io.BytesIO(), pyarrow.Table.from_pylist([{**row, "label": "a", "n": 1.0} for row in _ROWS])
    with pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _picture() -> bytes:
    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(file, "png")
    return file.getvalue()


def _recording() -> bytes:
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 8000, 40, "NONE", ""))
        recording.writeframes(bytes(range(80)))
    return file.getvalue()


def _hdf5() -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("examples/c")
        group["label"], group["pixels"], group["text"] = [1, 2], [[1.0, 2.0], [3.0, 4.0]], ["a", "b"]
    return buffer.getvalue()


def _sqlite() -> bytes:
    import tensorflow as tf

    features = {"text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a"]))}
    features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        connection.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        connection.execute("INSERT INTO client_metadata VALUES ('c', 'train', 2)")
        connection.executemany("INSERT INTO examples VALUES ('train', 'c', ?)", [(example,)] * 2)
        return connection.serialize()


def _leaf() -> bytes:
    user = {"x": [[1, 2], [3, 4]], "y": [0, 1]}
    return json.dumps({"users": ["a", "b"], "num_samples": [2, 2], "user_data": {"a": user, "b": user}}).encode()


def _squad() -> bytes:
    questions = [
        {"id": "1", "question": "q", "answers": [{"text": "c", "answer_start": 0}]},
        {"id": "2", "question": "r", "answers": [], "is_impossible": True},
    ]
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "c d", "qas": questions}]}]}).encode()


SEEDS = {
    "csv": lambda: 'text,label,n,client\n"wörd, ""one""",a,1.5,x\ntwo,b,2,y\n'.encode(),
    "tsv": lambda: b"text\tlabel\tn\tclient\none\ta\t1\tx\ntwo\tb\t2\ty\n",
    "jsonl": lambda: "\n".join(map(json.dumps, [*_ROWS, {"tokens": ["a", "b"], "tags": ["O", "O"]}])).encode(),
    "conll": lambda: b"-DOCSTART- O\n\nRome B-LOC\n. O\n\nA\tB-PER\nb\tI-PER\n",
    "dialogue": lambda: b"Ann:\nHi.\nAll.\n\nBob:\nHello.\n",
    "text": lambda: "Words and wörds.\n".encode(),
    "parquet": _parquet,
    "hdf5": _hdf5,
    "sqlite": _sqlite,
    "arrow": _arrow,
    "images": _picture,
    "recordings": _recording,
    "conllu": lambda: b"# text = A b\n1\tA\ta\tDET\t_\t_\t0\troot\t_\t_\n2\tb\tb\tNOUN\t_\t_\t1\tx\t_\t_\n\n",
    "leaf": _leaf,
    "squad": _squad,
}
"""Small good files, by the format's name."""


def seeds(name: str) -> list[bytes]:
    """The good file of a format, and all at which its reader once failed."""
    return [SEEDS[name](), *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))]


def mutant(files: list[bytes], number: int) -> bytes:
    """One of the files after a few damages, by its number."""
    draw = random.Random(number)
    data = bytearray(draw.choice(files))
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        start, length = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 4, 8, 64))
        other = draw.choice(files)
        there = draw.randrange(len(other) + 1)
        damage = draw.randrange(6)
        if damage == 0:
            data[start : start + 1] = bytes([draw.randrange(256)])
        elif damage == 1:
            data[start : start + length] = draw.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
        elif damage == 2:
            del data[start : start + length]
        elif damage == 3:
            data[start:start] = draw.choice(_TOKENS)
        elif damage == 4:
            data[start : start + length] = other[there : there + length]
        else:
            data[start:start] = other[there : there + 8 * length] * draw.choice((1, 2, 50))
    return bytes(data)


def read(name: str, path: str) -> None:
    """All columns that a file of a format has, in the way of training; a sentence is no error."""
    spec = DataSpec("file", files=(path,), format=name, numeric_columns=("n",))
    try:
        source = open_source(spec)
        for pool_name, pool in source.pools.items():
            source.digest(pool_name)
            for column in (*sorted(source.columns()), "label", "tokens"):
                try:
                    for _ in pool(frozenset({column})):
                        pass
                except UserError as error:
                    _check(error)
    except UserError as error:
        _check(error)


def _check(error):
    sentence = str(error)
    assert "\n" not in sentence, sentence
    assert len(sentence) < 5000, sentence


def _work(name, files, numbers, at, finds):
    faulthandler.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "x")
        for at.value in numbers:
            path.write_bytes(mutant(files, at.value))
            try:
                read(name, str(path))
            except BaseException as error:
                finds.put((at.value, f"{type(error).__name__}: {error}"[:300]))
    at.value = -1


def fuzz(name: str, count: int, first: int = 0) -> dict[str, str]:
    """Reads mutants of a format in a process of its own; path of each find in the corpus -> what it ended in."""
    files, found, numbers = seeds(name), {}, range(first, first + count)
    context = multiprocessing.get_context("fork")
    while numbers:
        at, finds = context.Value("q", numbers[0]), context.SimpleQueue()
        worker = context.Process(target=_work, args=(name, files, numbers, at, finds))
        worker.start()
        before = None
        while worker.is_alive() and (at.value != before or worker.exitcode is not None):
            before = at.value
            worker.join(_SECONDS)
        hangs = worker.is_alive()
        worker.kill()
        worker.join()
        while not finds.empty():
            number, what = finds.get()
            found[number] = what
        if at.value < 0:
            break
        found[at.value] = f"no end after {_SECONDS} s" if hangs else f"exit code {worker.exitcode}"
        numbers = numbers[numbers.index(at.value) + 1 :]
    return {_kept(name, mutant(files, number)): what for number, what in found.items()}


def _kept(name, data) -> str:
    path = CORPUS / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


if __name__ == "__main__":
    for chosen in sys.argv[2:] or SEEDS:
        started, number = time.monotonic(), int(sys.argv[1])
        ends = fuzz(chosen, number)
        print(f"{chosen}: {number} mutants, {len(ends)} finds, {time.monotonic() - started:.0f} s", flush=True)
        for place, what in ends.items():
            print(f"  {place}: {what[:200]}", flush=True)
