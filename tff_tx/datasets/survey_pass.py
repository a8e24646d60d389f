"""Surveys raw data in one pass, and keeps the surveys of a content in the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.datasets.sources import Chunk, LeftOut, Pool, Source, open_source
from tff_tx.datasets.spec import DataSpec, cache_path, locked
from tff_tx.datasets.surveys import PoolSurvey, Survey

# Fields of the spec that a survey does not depend on, or whose content counts instead; all others count.
_NOT_READING = (
    *("files", "silos", "validation_files", "test_files", "cache_dir", "seed", "label_names", "label_file"),
    *("categories", "text_join"),
    *("partition", "num_clients", "dirichlet_alpha", "shards_per_client", "power_law_exponent", "split"),
    *("validation_fraction", "test_fraction", "max_train_examples_per_client"),
)

_LISTS = ("label_values", "client_ids", "shape", "unreadable", "first_left_out")
_ARRAYS = ("labels", "clients")


def survey(spec: DataSpec) -> Survey:
    """Surveys a data set in one pass over its records, or none if the cache has a survey of the same content.

    Raises:
      UserError: If the data cannot be read.
    """
    source = open_source(spec)
    pools = None
    if source.digest is not None:
        digests = {name: source.digest(name) for name in source.pools}
        path = cache_path(spec, ".survey.npz", _NOT_READING, digests)
        pools = _read(path)
    if pools is None:
        pools = {name: _Pass(spec, source).over(pool) for name, pool in source.pools.items()}
        if source.digest is not None:
            pools = {name: dataclasses.replace(pool, digest=digests[name]) for name, pool in pools.items()}
            _write(path, pools)
    return Survey(pools, source, spec)


def label_names(spec: DataSpec) -> tuple:
    """The label names of a data set, see `Survey.label_names`; known ones without reading records."""
    return spec.known_labels or survey(spec).label_names


def image_shape(spec: DataSpec) -> tuple:
    """(channels, height, width) of the images of a data set, see `Survey.image_shape`."""
    return survey(spec).image_shape


class _Numbered:
    """Values of a record column, numbered in the order in which they first occur."""

    def __init__(self, column: str):
        self._column = column
        self._number_of: dict = {}
        self._parts: list = [np.zeros(0, np.int32)]

    def add(self, chunk: Chunk) -> None:
        import pandas as pd

        codes, found = pd.factorize(chunk.read([self._column])[self._column])
        numbers = [self._number_of.setdefault(value, len(self._number_of)) for value in found]
        self._parts.append(np.array(numbers, np.int32)[codes])

    @property
    def values(self) -> tuple:
        return tuple(self._number_of)

    @property
    def numbers(self) -> np.ndarray:
        return np.concatenate(self._parts)


class _Pass:
    """One pass over the records of one split."""

    def __init__(self, spec: DataSpec, source: Source):
        self._labels, self._clients = _Numbered("label"), _Numbered("client")
        self._add = {"label": self._labels.add, "pixels": self._add_pixels}
        if source.has_clients:
            self._add["client"] = self._clients.add
        if spec.categorical_columns:
            self._add["categories"] = self._add_categories
        self._several: set = set()
        self._categories: list = [set() for _ in spec.categorical_columns]
        self._shape: tuple = ()
        self._unreadable: list = []
        self._digest = hashlib.sha256() if source.digest is None else None

    def over(self, pool: Pool) -> PoolSurvey:
        columns, num_rows, left_out = frozenset(), 0, LeftOut()
        for chunk in pool.chunks():
            if not num_rows:
                columns = chunk.columns
                for several in {"tags", "labels"} & columns:
                    self._add[several] = functools.partial(self._add_several, several)
                    self._add.pop("label", None)
            num_rows += len(chunk.rows)
            left_out = chunk.left_out
            for column, add in list(self._add.items()):
                try:
                    add(chunk)
                except UserError:
                    self._unreadable.append(column)
                    del self._add[column]
            if self._digest is not None:
                self._add_to_digest(chunk)
        return PoolSurvey(
            digest="" if self._digest is None else self._digest.hexdigest(),
            num_rows=num_rows,
            columns=columns,
            label_values=tuple(self._several) or self._labels.values,
            labels=self._labels.numbers,
            client_ids=self._clients.values,
            clients=self._clients.numbers,
            categories=tuple(tuple(sorted(values)) for values in self._categories),
            shape=self._shape,
            unreadable=tuple(self._unreadable),
            rows_left_out=left_out.rows,
            first_left_out=tuple(left_out.first),
            clients_left_out=left_out.clients,
        )

    def _add_several(self, column: str, chunk: Chunk) -> None:
        self._several.update(*chunk.read([column])[column])

    def _add_categories(self, chunk: Chunk) -> None:
        for row in chunk.read(["categories"])["categories"]:
            for values, value in zip(self._categories, row):
                values.add(value)

    def _add_pixels(self, chunk: Chunk) -> None:
        if not self._shape:
            self._shape = np.shape(chunk.read(["pixels"], most=1)["pixels"].iloc[0])

    def _add_to_digest(self, chunk: Chunk) -> None:
        for row in chunk.rows:
            for name, value in row.items():
                if name != "where":
                    self._digest.update(value.encode() + b"\0" if isinstance(value, str) else value.tobytes())


def _write(path: str, pools: Mapping[str, PoolSurvey]) -> None:
    """Keeps a survey; that the cache cannot be written is said by what must write there."""
    tables: dict[str, dict] = {}
    arrays = {}
    for name, pool in pools.items():
        fields = dict(vars(pool))
        arrays.update({f"{name}.{key}": fields.pop(key) for key in _ARRAYS})
        tables[name] = {**fields, "columns": sorted(pool.columns)}
    with contextlib.suppress(OSError, UserError), locked(path), files.atomic(path, "wb", private=True) as file:
        np.savez(file, tables=np.frombuffer(json.dumps(tables).encode(), np.uint8), **arrays)


_OF_ZIP = zipfile.BadZipFile, zlib.error


def _read(path: str) -> dict[str, PoolSurvey] | None:
    """The pools of a survey, or None if there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            tables = json.loads(file["tables"].tobytes())
            return {
                name: PoolSurvey(
                    **{
                        **table,
                        **{key: tuple(table[key]) for key in _LISTS},
                        **{key: file[f"{name}.{key}"] for key in _ARRAYS},
                        "columns": frozenset(table["columns"]),
                        "categories": tuple(map(tuple, table["categories"])),
                    }
                )
                for name, table in tables.items()
            }
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, *_OF_ZIP):
        return None
