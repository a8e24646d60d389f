"""Formats that hold records by other means than lines: Parquet, SQuAD, LEAF, and TFF's HDF5 and SQLite.

Readers as in `lines`. In the last three the client is part of the format, and comes as "client".
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers.lines import utf8_lines
from tff_tx.datasets.sources import CHUNK_ROWS, Format, Rows

if TYPE_CHECKING:
    import tensorflow as tf


def read_parquet(path: str, columns: Sequence[str]) -> Rows:
    """Apache Parquet."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise UserError(
            f"{path}: no Parquet file ({error}); convert it, or name its {setting('data.format')}."
        ) from error
    with file:
        rows = (row for batch in file.iter_batches(batch_size=CHUNK_ROWS) for row in batch.to_pylist())
        for number, row in enumerate(rows, start=1):
            yield f"{path}, row {number}", row


def read_squad(path: str, columns: Sequence[str]) -> Rows:
    """SQuAD's JSON, of version 1.1 or 2.0 (Rajpurkar et al. 2016, 2018).

    {data: [{title, paragraphs: [{context, qas: [{id, question, answers: [{text, answer_start}]}]}]}]}. A row a
    question: title, id, context, question and answers, which are empty where `is_impossible`.
    """
    content = _json(path)
    place = "data"
    try:
        for article in content["data"]:
            title = article.get("title", "")
            for number, paragraph in enumerate(article["paragraphs"], start=1):
                place = f"{title!r}, paragraph {number}"
                context = paragraph["context"]
                for question in paragraph["qas"]:
                    place = f"{title!r}, question {question.get('id', question['question'])!r}"
                    answers = [] if question.get("is_impossible") else question["answers"]
                    row = {"title": title, "id": question.get("id"), "context": context}
                    yield f"{path}, {place}", {**row, "question": question["question"], "answers": answers}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: no SQuAD file at {place} ({type(error).__name__} {error}), which has articles in `data` with "
            f"`paragraphs` of a `context` and `qas`; correct it, or name its {setting('data.format')}."
        ) from error


def _json(path: str):
    try:
        return json.loads("".join(utf8_lines(path)))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: no valid JSON ({error.msg}); correct the file.") from error


def read_leaf(path: str, columns: Sequence[str]) -> Rows:
    """LEAF's JSON (Caldas et al. 2018): {users, user_data: {user: {x: [...], y: [...]}}}.

    One file is read at a time and as a whole, which is how LEAF cuts its files.
    """
    content = _json(path)
    try:
        users, data = content["users"], content["user_data"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no LEAF file, which is an object with `users` and `user_data`; convert it, "
            f"or name its {setting('data.format')}."
        ) from error
    if len(set(users)) < len(users):
        twice = next(user for user in users if users.count(user) > 1)
        raise UserError(f"{path}: the user {twice!r} is listed twice; give each user one entry.")
    for user in users:
        yield from _leaf_user(path, user, data.get(user))


def _leaf_user(path: str, user: str, content) -> Rows:
    inputs = content.get("x", []) if isinstance(content, dict) else []
    if not inputs:
        raise UserError(f"{path}: the user {user!r} has no example; remove the user from the file.")
    labels = content.get("y")
    if isinstance(labels, list) and len(labels) != len(inputs):
        raise UserError(
            f"{path}: the user {user!r} has {len(inputs)} inputs `x` and {len(labels)} labels "
            "`y`; make them equally many."
        )
    for number, value in enumerate(inputs):
        row = {"client": user, **_leaf_input(value)}
        if isinstance(labels, list):
            row["label"] = labels[number]
        yield f"{path}, user {user!r}, example {number + 1}", row


def _leaf_input(value) -> dict:
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return {"pixels": np.asarray(value)}
    if isinstance(value, list):
        # Fields of a record, as in LEAF's sent140; --text_column=4 takes the fifth.
        return {str(number): field for number, field in enumerate(value)}
    return {"text": value}


def read_hdf5(path: str, columns: Sequence[str]) -> Rows:
    """TFF's old HDF5 ClientData: `/examples/<client id>/<feature>`, one row an example."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: no HDF5 file ({error}); convert it, or name its {setting('data.format')}.") from error
    with file:
        if "examples" not in file:
            raise UserError(
                f"{path}: no HDF5 file of TFF, as it has no group `examples` but "
                f"{', '.join(file) or 'nothing'}; convert it."
            )
        for client, group in file["examples"].items():
            yield from _hdf5_client(path, client, group)


def _hdf5_client(path: str, client: str, group) -> Rows:
    sizes = {name: len(feature) for name, feature in group.items()}
    if not sizes or 0 in sizes.values():
        raise UserError(f"{path}: the client {client!r} has no example; remove its group.")
    if len(set(sizes.values())) > 1:
        raise UserError(
            f"{path}: the features of the client {client!r} have different lengths ({sizes}); make them equally long."
        )
    size = next(iter(sizes.values()))
    for start in range(0, size, CHUNK_ROWS):
        part = {name: feature[start : start + CHUNK_ROWS] for name, feature in group.items()}
        for number in range(min(CHUNK_ROWS, size - start)):
            where = f"{path}, client {client!r}, example {start + number + 1}"
            row = {name: _decoded(values[number], where) for name, values in part.items()}
            yield where, {"client": client, **row}


def _decoded(value, where: str):
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: the byte 0x{value[error.start]:02x} is not UTF-8; convert the texts.") from error


def sqlite_splits(path: str) -> list:
    """The split names in a file of TFF's SQLite ClientData format."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            metadata = connection.execute(
                "SELECT split_name, client_id, num_examples, COUNT(*) FROM client_metadata "
                "GROUP BY split_name, client_id"
            ).fetchall()
            connection.execute("SELECT serialized_example_proto FROM examples LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: no SQLite file in TFF's ClientData format ({error}); convert it, or name its "
            f"{setting('data.format')}."
        ) from error
    for split, client, size, times in metadata:
        if times > 1:
            raise UserError(f"{path}: the client {client!r} is {times} times in the split {split!r}; merge them.")
        if not size:
            raise UserError(f"{path}: the client {client!r} has no example; remove it from the file.")
    return sorted({row[0] for row in metadata})


def read_sqlite(path: str, split: str) -> Rows:
    """TFF's SQLite ClientData: every feature of the examples of one split, in the order written."""
    import tensorflow as tf

    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT client_id, serialized_example_proto FROM examples WHERE split_name = ? ORDER BY rowid"
        for number, (client, proto) in enumerate(connection.execute(query, (split,)), start=1):
            where = f"{path}, split {split!r}, example {number}"
            features = tf.train.Example.FromString(proto).features.feature
            row = {name: _feature(feature, where) for name, feature in features.items()}
            yield where, {"client": client, **row}


def _feature(feature: tf.train.Feature, where: str):
    kind = feature.WhichOneof("kind")
    values: list = list(getattr(feature, kind).value) if kind else []
    if kind == "bytes_list":
        values = [_decoded(value, where) for value in values]
        return values[0] if len(values) == 1 else values
    if len(values) == 1:
        return values[0]
    return np.asarray(values, np.float32 if kind == "float_list" else np.int64)


PARQUET = Format(read_parquet, (".parquet",))
SQUAD = Format(read_squad)
LEAF = Format(read_leaf, (".json",), has_clients=True, one_file_a_client=True)
HDF5 = Format(read_hdf5, (".h5", ".hdf5"), has_clients=True, one_file_a_client=True)
SQLITE = Format(
    read_sqlite, (".sqlite", ".sqlite3", ".db"), has_clients=True, one_file_a_client=True, splits=sqlite_splits
)
