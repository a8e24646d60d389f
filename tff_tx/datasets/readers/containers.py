"""Formats that hold records by other means than text: Parquet, and TFF's HDF5 and SQLite.

Readers as in `lines`. In the last two the client is part of the format, and comes as "client".
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.sources import CHUNK_ROWS, ClientWithoutExample, Format, Rows

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
        yield path, ClientWithoutExample(f"{path}: the client {client!r} has no example.")
        return
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
                "SELECT split_name, client_id, COUNT(*) FROM client_metadata GROUP BY split_name, client_id"
            ).fetchall()
            connection.execute("SELECT serialized_example_proto FROM examples LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: no SQLite file in TFF's ClientData format ({error}); convert it, or name its "
            f"{setting('data.format')}."
        ) from error
    for split, client, times in metadata:
        if times > 1:
            raise UserError(f"{path}: the client {client!r} is {times} times in the split {split!r}; merge them.")
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
