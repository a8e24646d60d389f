"""Formats that hold records by other means than text: Parquet, and TFF's HDF5 and SQLite.

Readers as in `lines`. In the last two the client is part of the format, and comes as "client".
"""

from __future__ import annotations

import contextlib
import sqlite3
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import listed, one_line
from tff_tx.datasets.readers.arrow import bounded_batches
from tff_tx.datasets.readers.limits import CHUNK_BYTES, require_bounded
from tff_tx.datasets.sources import CHUNK_ROWS, ClientWithoutExample, Format, Rows

if TYPE_CHECKING:
    import tensorflow as tf

_LONGEST_ROW = 2**28


def read_parquet(path: str, columns: Sequence[str]) -> Rows:
    """Apache Parquet."""
    import pyarrow

    number = 0
    try:
        for batch in bounded_batches(path):
            for number, row in enumerate(batch.to_pylist(), start=number + 1):  # noqa: B020
                yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise UserError(
            f"{path}: no Parquet file{after} ({one_line(error)}); convert it, or name its {setting('data.format')}."
        ) from error


def read_hdf5(path: str, columns: Sequence[str]) -> Rows:
    """TFF's old HDF5 ClientData: `/examples/<client id>/<feature>`, one row an example."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path}: no HDF5 file ({one_line(error)}); convert it, or name its {setting('data.format')}."
        ) from error
    with file:
        if "examples" not in file:
            raise UserError(
                f"{path}: no HDF5 file of TFF, as it has no group `examples` but "
                f"{listed(file) or 'nothing'}; convert it."
            )
        for client, group in file["examples"].items():
            yield from _hdf5_client(path, client, group)


def _hdf5_client(path: str, client: str, group) -> Rows:
    sizes = {name: len(feature) for name, feature in group.items()}
    if not sizes or 0 in sizes.values():
        yield path, ClientWithoutExample(f"{path}: the client {client!r} has no example.")
        return
    if len(set(sizes.values())) > 1:
        raise UserError(
            f"{path}: the features of the client {client!r} have different lengths ({sizes}); make them equally long."
        )
    size = next(iter(sizes.values()))
    row_bytes = sum(f.dtype.itemsize * np.prod(f.shape[1:], dtype=np.float64) for f in group.values())
    require_bounded(path, row_bytes * size)
    step = int(np.clip(CHUNK_BYTES / max(row_bytes, 1), 1, CHUNK_ROWS))
    for start in range(0, size, step):
        part = {name: feature[start : start + step] for name, feature in group.items()}
        for number in range(min(step, size - start)):
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


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    """A database to read, in which what is read are tables: other people's queries may take any time."""
    with contextlib.closing(sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_ROW)
        kinds = dict(connection.execute("SELECT name, type FROM sqlite_master"))
        for name in ("examples", "client_metadata"):
            if kinds.get(name) != "table":
                raise sqlite3.DatabaseError(f"{name} is no table of it")
        yield connection


def sqlite_splits(path: str) -> list:
    """The split names in a file of TFF's SQLite ClientData format."""
    try:
        with _opened(path) as connection:
            metadata = connection.execute(
                "SELECT split_name, client_id, COUNT(*) FROM client_metadata GROUP BY split_name, client_id"
            ).fetchall()
            connection.execute("SELECT serialized_example_proto FROM examples LIMIT 1")
            if not all(isinstance(row[0], str) for row in metadata):
                raise sqlite3.DatabaseError("the name of a split is no text")
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: no SQLite file in TFF's ClientData format ({one_line(error)}); convert it, or name its "
            f"{setting('data.format')}."
        ) from error
    for split, client, times in metadata:
        if times > 1:
            raise UserError(f"{path}: the client {client!r} is {times} times in the split {split!r}; merge them.")
    return sorted({row[0] for row in metadata})


def read_sqlite(path: str, split: str) -> Rows:
    """TFF's SQLite ClientData: every feature of the examples of one split, in the order written."""
    import tensorflow as tf

    with _opened(path) as connection:
        query = "SELECT client_id, serialized_example_proto FROM examples WHERE split_name = ? ORDER BY rowid"
        for number, (client, proto) in enumerate(connection.execute(query, (split,)), start=1):
            where = f"{path}, split {split!r}, example {number}"
            features = tf.train.Example.FromString(proto).features.feature
            row = {name: _feature(feature, where) for name, feature in features.items()}
            yield where, {"client": client, **row}
        query = "SELECT client_id FROM client_metadata WHERE split_name = ? AND NOT num_examples"
        for (client,) in connection.execute(query, (split,)):
            yield path, ClientWithoutExample(f"{path}: the client {client!r} has no example.")


def _feature(feature: tf.train.Feature, where: str):
    kind = feature.WhichOneof("kind")
    values: list = list(getattr(feature, kind).value) if kind else []
    if kind == "bytes_list":
        values = [_decoded(value, where) for value in values]
        return values[0] if len(values) == 1 else values
    if len(values) == 1:
        return values[0]
    return np.asarray(values, np.float32 if kind == "float_list" else np.int64)


HDF5 = Format(read_hdf5, (".h5", ".hdf5"), has_clients=True, one_file_a_client=True)
SQLITE = Format(
    read_sqlite, (".sqlite", ".sqlite3", ".db"), has_clients=True, one_file_a_client=True, splits=sqlite_splits
)
