"""Data as Hugging Face's `datasets` stores them: Arrow directories, Parquet, and data sets of the hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import one_line
from tff_tx.datasets.readers.containers import read_parquet
from tff_tx.datasets.sources import CHUNK_ROWS, Format, Rows

HUB = "hf://"
"""Before the name of a data set of the hub, as in hf://owner/name, hf://owner/name:config or hf://owner/name@revision."""

_SPLITS, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"


def is_arrow_directory(path: str) -> bool:
    """Whether `save_to_disk` wrote a directory."""
    return any(os.path.isfile(os.path.join(path, name)) for name in (_SPLITS, _STATE))


def arrow_splits(path: str) -> list[str]:
    """The names of the splits of a directory or file; one that stands alone is for training."""
    return list(_read(path, _SPLITS)["splits"]) if os.path.isfile(os.path.join(path, _SPLITS)) else ["train"]


def arrow_files(path: str, split: str) -> list[str]:
    """The Arrow files of a split."""
    if not os.path.isdir(path):
        return [path]
    path = os.path.join(path, split) if os.path.isfile(os.path.join(path, _SPLITS)) else path
    return [os.path.join(path, os.path.basename(file["filename"])) for file in _read(path, _STATE)["_data_files"]]


def _read(directory: str, name: str) -> Any:
    try:
        return files.parse_json(os.path.join(directory, name))
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: {name} cannot be read ({error}); save the data set again.") from error


def read_arrow(path: str, split: str) -> Rows:
    """A split of a directory that `save_to_disk` wrote, or an Arrow file; labels by their names."""
    import pyarrow

    number = 0
    for file in arrow_files(path, split):
        try:
            with pyarrow.OSFile(file) as source:
                batches = _batches(source)
                convert = _converter(_features(batches.schema, os.path.dirname(file)))
                for batch in batches:
                    batch.validate(full=True)  # else what is damaged in it ends the process
                    for start in range(0, len(batch), CHUNK_ROWS):
                        for row in batch.slice(start, CHUNK_ROWS).to_pylist():
                            number += 1
                            yield f"{path}, {split} row {number}", convert(row)
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{file}: no Arrow file ({one_line(error)}); save the data set again.") from error


def _batches(source):
    import pyarrow
    from pyarrow import ipc

    try:
        return ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        found = ipc.open_file(source)
        return ipc.RecordBatchReader.from_batches(found.schema, map(found.get_batch, range(found.num_record_batches)))


def _features(schema, directory: str | None = None) -> Any:
    """The features that the library stored with a schema, or in a directory; none of other files."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is not None:
        return (json.loads(stored).get("info") or {}).get("features") or {}
    there = directory is not None and os.path.isfile(os.path.join(directory, _INFO))
    return (_read(directory, _INFO).get("features") or {}) if there else {}


def _converter(feature: Any) -> Callable[[Any], Any]:
    """From a value to that with names in place of the numbers of labels."""
    if isinstance(feature, list) and feature:
        return _each(_converter(feature[0]))
    if not isinstance(feature, Mapping):
        return lambda value: value
    kind = feature.get("_type")
    if kind == "ClassLabel" and feature.get("names"):
        names = dict(enumerate(feature["names"]))
        return lambda value: names.get(value, value) if value is None or value >= 0 else None
    if kind in ("Sequence", "LargeList", "List"):
        inner, many = feature.get("feature"), _converter(feature.get("feature"))
        # Of a sequence of records the library makes a record of sequences.
        return _converter({k: [v] for k, v in inner.items()}) if _is_record(inner) else _each(many)
    if kind is not None and not isinstance(kind, Mapping):
        return lambda value: value
    fields = {name: _converter(one) for name, one in feature.items()}
    return lambda value: value and {k: fields[k](v) if k in fields else v for k, v in value.items()}


def _each(convert):
    return lambda value: value if value is None else [convert(one) for one in value]


def _is_record(feature):
    return isinstance(feature, Mapping) and not isinstance(feature.get("_type", {}), str)


def read_named_parquet(path: str, columns: Sequence[str]) -> Rows:
    """Apache Parquet; labels by their names, if the library wrote it."""
    from pyarrow import parquet

    convert, number = None, 0
    for number, (where, row) in enumerate(read_parquet(path, columns)):
        if not number:
            convert = _converter(_features(parquet.read_schema(path)))
        yield where, convert(row)


def arrow_label_names(path: str, split: str | None, column: str) -> tuple[str, ...]:
    """The names of the labels of a column, in the order of their numbers; empty if it has no such names."""
    import pyarrow
    from pyarrow import parquet

    if split is None:
        features = _features(parquet.read_schema(path))
    else:
        file = arrow_files(path, split)[0]
        with pyarrow.OSFile(file) as source:
            features = _features(_batches(source).schema, os.path.dirname(file))
    found = features.get(column) if isinstance(features, Mapping) else None
    while isinstance(found, (list, Mapping)) and not (isinstance(found, Mapping) and "names" in found):
        found = found[0] if isinstance(found, list) and found else isinstance(found, Mapping) and found.get("feature")
    return tuple(map(str, found["names"] or ())) if isinstance(found, Mapping) else ()


def hub_directory(name: str, cache_dir: str) -> str:
    """The directory of a data set of the hub, which is downloaded once.

    Raises:
      UserError: If it cannot be, or the package `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{setting('data.files')}={name}: the hub's data sets are read by the package `datasets`, which is not "
            "installed: install it, or name files."
        ) from error
    directory = os.path.join(cache_dir, "hub", hashlib.sha256(name.encode()).hexdigest()[:32])
    if is_arrow_directory(directory):
        return directory
    place, _, revision = name.removeprefix(HUB).removeprefix("datasets/").partition("@")
    place, _, config = place.partition(":")
    try:
        found = datasets.load_dataset(place, config or None, revision=revision or None)
    except Exception as error:  # of the library, and of whatever it calls
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{setting('data.files')}={name} cannot be loaded ({reason}); correct the name.") from error
    files.make_private(os.path.dirname(directory))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(directory)) as temporary:
        found.save_to_disk(os.path.join(temporary, "data"))
        shutil.move(os.path.join(temporary, "data"), directory)
    return directory


ARROW = Format(read_arrow, (".arrow",), splits=arrow_splits, label_names=arrow_label_names, contents=arrow_files)
PARQUET = Format(read_named_parquet, (".parquet",), label_names=arrow_label_names)
