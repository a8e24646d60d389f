"""The store on disk: one SQLite file in TFF's ClientData format, written once and read by client.

The tables are those of `tff.simulation.datasets.SqlClientData`, so that TFF's own class reads the file too:
`examples(split_name, client_id, serialized_example_proto)`, one row an example, and `client_metadata(client_id,
split_name, num_examples)`. A third one, `tff_tx_meta(key, value)`, holds what makes the file open by its path alone:
the element spec, the kind of task, the label names, the encoder's fingerprint and a digest of all rows.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import json
import os
import sqlite3
import string
import zlib
from collections.abc import Iterator, Mapping
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core import files
from tff_tx.core.errors import UserError, setting

FORMAT_VERSION = 2

_SCHEMA = """
CREATE TABLE examples (
  split_name TEXT NOT NULL, client_id TEXT NOT NULL, serialized_example_proto BLOB NOT NULL);
CREATE TABLE client_metadata (
  client_id TEXT NOT NULL, split_name TEXT NOT NULL, num_examples INTEGER NOT NULL);
CREATE TABLE tff_tx_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
# The row id is the last part of every SQLite index: within a client the rows come in the order written.
_INDEX = "CREATE INDEX examples_by_client ON examples (split_name, client_id)"
# Where SQLite leaves four bytes to applications, the "user version": they hold the checksum of the rest of the file.
_SEAL = 60
_INSERT = "INSERT INTO examples VALUES (?, ?, ?)"
_ROWS_PER_INSERT, _BYTES_PER_INSERT = 2000, 2**26

_ALL = "SELECT serialized_example_proto FROM examples WHERE {mine} ORDER BY rowid"
# Sorted by the cubes, modulo a prime, of an arithmetic progression: a permutation that takes no state but two numbers.
# The last part of a permutation is filled up with rows of the part before it, so that no part has a row twice.
_DRAWN = """
WITH mine AS (SELECT rowid AS row, ROW_NUMBER() OVER (ORDER BY rowid) AS place FROM examples WHERE {mine}),
  plan AS (SELECT COUNT(*) AS n, MAX(1, (COUNT(*) + {size} - 1) / {size}) AS parts FROM mine),
  keyed AS (
    SELECT row, n, (place % {p} * (1 + ({a} + {number} / parts * {b}) % ({p} - 1)) + {b}) % {p} AS x FROM mine, plan)
SELECT serialized_example_proto FROM (
  SELECT row FROM keyed ORDER BY CASE WHEN n <= {ordered} THEN row ELSE x * x % {p} * x % {p} END, row
  LIMIT {size} OFFSET (SELECT MAX(0, MIN({number} % parts * {size}, n - {size})) FROM plan)
) CROSS JOIN examples ON examples.rowid = row
"""
_PRIME = 2**31 - 1


class Draw(NamedTuple):
    """One of the parts into which a client's examples are cut after a random permutation, and then after another one.

    Attributes:
      number: int64 scalar, of the part, from 0 and through all permutations.
      size: Examples a part; a client with fewer has one part, of all of them.
      ordered: A client with at most so many examples gives them all in stored order.
      seed: int64 [2], of the permutations.
    """

    number: tf.Tensor
    size: int
    ordered: int
    seed: tf.Tensor


class StoreWriter:
    """Writes a store row by row; the file gets its name only when everything is in it.

    Use as a context manager. Leaving it by an exception removes the unfinished file. Memory stays
    bounded by one batch of rows and one counter a client.

    Args:
      path: The final path; an existing file is replaced.
      element_spec: Feature name -> unbatched `tf.TensorSpec`; string, integer or float; the shape
        is fully known or `[None]`.
      meta: What `read_meta` is to give back beside the element spec; must be JSON.
      chosen_by: The setting that chose the place, for messages.

    Attributes:
      notes: Lines on what became of the records, which `read_meta` gives back as "notes".

    Raises:
      UserError: If the directory cannot be written or the disk is full.
    """

    def __init__(
        self, path: str, element_spec: Mapping[str, tf.TensorSpec], meta: Mapping, chosen_by: str = "data.cache_dir"
    ):
        self._path, self._chosen_by = path, chosen_by
        self._scratch = path + ".tmp"
        self._serialize = build_serializer(element_spec)
        self._meta = {**meta, "format": FORMAT_VERSION, "element_spec": _spec_to_json(element_spec)}
        self._rows: list = []
        self._pending = 0
        self._digest = hashlib.sha256(json.dumps(self._meta, sort_keys=True).encode())
        self._counts: collections.Counter = collections.Counter()
        self.notes: list[str] = []

    def __enter__(self) -> StoreWriter:
        with _disk_errors(self._path, self._chosen_by):
            if os.path.exists(self._scratch):
                os.remove(self._scratch)
            os.close(os.open(self._scratch, os.O_CREAT | os.O_EXCL, 0o600))  # it holds data
            self._connection = sqlite3.connect(self._scratch)
            # A crash leaves only the scratch file, so the journal that would repair it is wasted work.
            self._connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        return self

    def add(self, split: str, client_id: str, example: Mapping[str, np.ndarray]) -> None:
        """Appends one example to a client."""
        self._rows.append((split, client_id, self._serialize(example)))
        self._counts[split, client_id] += 1
        self._pending += len(self._rows[-1][2])
        if len(self._rows) >= _ROWS_PER_INSERT or self._pending >= _BYTES_PER_INSERT:
            self._flush()

    def count(self, split: str, client_id: str) -> int:
        """The number of examples the client has so far."""
        return self._counts[split, client_id]

    def _flush(self) -> None:
        with _disk_errors(self._path, self._chosen_by):
            self._connection.executemany(_INSERT, self._rows)
        for split, client, proto in self._rows:
            self._digest.update(f"{split}\0{client}\0{len(proto)}\0".encode() + proto)
        self._rows.clear()
        self._pending = 0

    def __exit__(self, exception_type, exception, traceback) -> None:
        try:
            if exception_type is None:
                self._finish()
        finally:
            self._connection.close()
            if os.path.exists(self._scratch):
                os.remove(self._scratch)

    def _finish(self) -> None:
        self._flush()
        more = {"digest": self._digest.hexdigest(), "notes": self.notes}
        with _disk_errors(self._path, self._chosen_by):
            self._connection.executemany(
                "INSERT INTO client_metadata VALUES (?, ?, ?)",
                ((client, split, count) for (split, client), count in self._counts.items()),
            )
            self._connection.executemany(
                "INSERT INTO tff_tx_meta VALUES (?, ?)",
                ((k, json.dumps(v)) for k, v in {**self._meta, **more}.items()),
            )
            self._connection.execute(_INDEX)
            self._connection.commit()
            self._connection.close()
            with open(self._scratch, "r+b") as scratch:
                scratch.seek(_SEAL)
                scratch.write(_checksum(self._scratch).to_bytes(4, "big"))
            files.sync(self._scratch)
            os.replace(self._scratch, self._path)


@contextlib.contextmanager
def _disk_errors(path: str, chosen_by: str) -> Iterator[None]:
    """Names the setting that chose the place when the disk refuses."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise UserError(
            f"{setting(chosen_by)}: cannot write to {os.path.dirname(os.path.abspath(path))} ({error}); free some "
            "space there or name another directory."
        ) from error


class SqliteClientData(tff.simulation.datasets.ClientData):
    """The clients of one split of a store.

    Unlike `tff.simulation.datasets.SqlClientData` it takes any client id (with quotes, say), yields the examples in the
    order written, parsed to `element_type_structure`, and knows the clients' sizes. It pickles as its path and split,
    so the file must be readable under the same path where it is unpickled.

    Args:
      path: A file written by `StoreWriter`.
      split: The split's name.

    Attributes:
      fingerprint: SHA-256 of the examples and clients of all splits, and of what they mean; hexadecimal.

    Raises:
      UserError: If there is no such store, or no such split in it.
    """

    def __init__(self, path: str, split: str):
        self.path, self.split = path, split
        meta = read_meta(path)
        self._element_spec, self.fingerprint = meta["element_spec"], meta["digest"]
        with _connect(path) as connection:
            rows = connection.execute(
                "SELECT client_id, num_examples FROM client_metadata WHERE split_name = ?", (split,)
            ).fetchall()
        if not rows:
            raise UserError(f"{path}: the store has no split {split!r}; it has {splits(path)}.")
        self._sizes = dict(sorted(rows))
        self._client_ids = list(self._sizes)

    def __reduce__(self):
        return (SqliteClientData, (self.path, self.split))

    @property
    def client_ids(self) -> list[str]:
        """The clients' ids, sorted."""
        return self._client_ids

    @property
    def element_type_structure(self) -> collections.OrderedDict:
        """Feature name -> `tf.TensorSpec` of one example, not batched."""
        return self._element_spec

    def num_examples(self, client_id: str) -> int:
        """The number of examples of one client."""
        return self._sizes[client_id]

    def sizes(self) -> dict[str, int]:
        """Client id -> number of examples, in the order of `client_ids`."""
        return dict(self._sizes)

    def example_bytes(self) -> dict[str, float]:
        """Client id -> mean bytes of a stored example: how long it is, as far as that makes it more work."""
        with _connect(self.path) as connection:
            rows = connection.execute(
                "SELECT client_id, AVG(LENGTH(serialized_example_proto)) FROM examples WHERE split_name = ? "
                "GROUP BY client_id",
                (self.split,),
            )
            return dict(rows.fetchall())

    @property
    def serializable_dataset_fn(self) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Client id, a string or a string tensor, or with a `Draw` -> its dataset; can be traced inside a graph."""
        return functools.partial(client_dataset, self.path, self.split, self._element_spec)

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
        """The examples of one client in the order written."""
        if client_id not in self._sizes:
            raise ValueError(f"{client_id!r} is not a client of the split {self.split!r} of {self.path}.")
        return self.serializable_dataset_fn(client_id)


def client_dataset(path, split: str, element_spec, client_id, draw: Draw | None = None) -> tf.data.Dataset:
    """The examples of a client of a store, or those drawn; path and client id are strings or string tensors."""
    quoted = split.replace("'", "''"), tf.strings.regex_replace(client_id, "'", "''")
    values = {"mine": tf.strings.join(["split_name = '", quoted[0], "' AND client_id = '", quoted[1], "'"])}
    if draw is not None:
        numbers = {"number": draw.number, "a": draw.seed[0] % _PRIME, "b": draw.seed[1] % _PRIME}
        numbers |= {"size": draw.size, "ordered": draw.ordered, "p": _PRIME}
        values |= {name: tf.strings.as_string(tf.cast(value, tf.int64)) for name, value in numbers.items()}
    protos = tf.data.experimental.SqlDataset(
        "sqlite", path, _filled(_ALL if draw is None else _DRAWN, values), tf.string
    )
    return protos.map(build_parser(element_spec))


def _filled(query: str, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The query with string tensors in place of names in braces."""
    parts = ((text, values[name] if name else "") for text, name, *_ in string.Formatter().parse(query))
    return tf.strings.join([piece for pair in parts for piece in pair])


def is_whole(path: str) -> bool:
    """Whether there is a store of this path, and as it was written, to the bit."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        file.seek(_SEAL)
        return file.read(4) == _checksum(path).to_bytes(4, "big")


def _checksum(path: str) -> int:
    """CRC-32 of a store without its seal."""
    with open(path, "rb") as file:
        before = zlib.crc32(file.read(_SEAL))
    return files.checksum(path, _SEAL + 4, before)


def read_meta(path: str) -> dict:
    """What the store says of itself; `element_spec` is an OrderedDict of `tf.TensorSpec`.

    Raises:
      UserError: If the file does not exist or is not a store of this format version.
    """
    try:
        with _connect(path) as connection:
            meta = dict(connection.execute("SELECT key, value FROM tff_tx_meta"))
        meta = {key: json.loads(value) for key, value in meta.items()}
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a data store ({error}); delete the file, it is written anew from the data."
        ) from error
    if meta.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path}: the store has format {meta.get('format')}, this version reads "
            f"{FORMAT_VERSION}; delete the file, it is written anew from the data."
        )
    specs = ((name, tf.TensorSpec(shape, dtype)) for name, dtype, shape in meta["element_spec"])
    return {**meta, "element_spec": collections.OrderedDict(specs)}


def splits(path: str) -> list[str]:
    """The names of the splits that have clients."""
    with _connect(path) as connection:
        rows = connection.execute("SELECT DISTINCT split_name FROM client_metadata").fetchall()
    return sorted(row[0] for row in rows)


@contextlib.contextmanager
def _connect(path: str) -> Iterator[sqlite3.Connection]:
    """A read-only connection, closed at the end as sqlite3's own manager does not."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file; load the data to write it.")
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    with contextlib.closing(sqlite3.connect(f"file:{quoted}?mode=ro", uri=True)) as connection:
        yield connection


def _stored_dtype(spec: tf.TensorSpec) -> tf.DType:
    if spec.dtype == tf.string:
        return tf.string
    return tf.float32 if spec.dtype.is_floating else tf.int64


def build_serializer(element_spec: Mapping[str, tf.TensorSpec]) -> Callable[[Mapping], bytes]:
    """A function from one example, name -> array, to a serialized `tf.train.Example`."""
    lists = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}
    kinds = {name: lists[_stored_dtype(spec)] for name, spec in element_spec.items()}

    def serialize(example: Mapping) -> bytes:
        proto = tf.train.Example()
        for name, values in kinds.items():
            getattr(proto.features.feature[name], values).value.extend(np.ravel(example[name]).tolist())
        return proto.SerializeToString(deterministic=True)

    return serialize


def build_parser(element_spec: Mapping[str, tf.TensorSpec]) -> Callable[[tf.Tensor], Mapping]:
    """A function from a serialized `tf.train.Example`, string [], to the spec's tensors."""

    def feature(spec: tf.TensorSpec):
        if spec.shape.is_fully_defined():
            return tf.io.FixedLenFeature(spec.shape, _stored_dtype(spec))
        return tf.io.FixedLenSequenceFeature([], _stored_dtype(spec), allow_missing=True)

    features = {name: feature(spec) for name, spec in element_spec.items()}

    def parse(proto: tf.Tensor) -> Mapping:
        parsed = tf.io.parse_single_example(proto, features)
        return collections.OrderedDict((name, tf.cast(parsed[name], spec.dtype)) for name, spec in element_spec.items())

    return parse


def _spec_to_json(element_spec: Mapping[str, tf.TensorSpec]) -> list:
    for name, spec in element_spec.items():
        if not spec.shape.is_fully_defined() and spec.shape.rank != 1:
            raise ValueError(f"Feature {name!r} has shape {spec.shape}; it must be fully known or [None].")
    return [[name, spec.dtype.name, spec.shape.as_list()] for name, spec in element_spec.items()]
