"""Which files, in which format: from the paths of a `DataSpec` to records."""

from __future__ import annotations

import collections
import dataclasses
import functools
import glob
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tff_tx.config.registries import FORMATS
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers import columns, limits
from tff_tx.datasets.readers.folders import splits_by_list, splits_by_name, table_of, trained_on_by_name
from tff_tx.datasets.readers.formats_of_files import File, ending, format_by_name, format_of
from tff_tx.datasets.readers.hugging_face import HUB, hub_directory, is_arrow_directory
from tff_tx.datasets.readers.media_tables import with_media
from tff_tx.datasets.readers.opening import encoding_of, is_description
from tff_tx.datasets.readers.spans import with_annotations
from tff_tx.datasets.readers.words import with_sentences
from tff_tx.datasets.sources import (
    CHUNK_ROWS,
    BadRow,
    Chunk,
    ClientWithoutExample,
    DataSet,
    Format,
    LeftOut,
    Pool,
    Rows,
    Source,
    file_digest,
    grouped,
)
from tff_tx.datasets.spec import cache_directory
from tff_tx.datasets.times import by_time

if TYPE_CHECKING:
    import pandas as pd

    from tff_tx.datasets.spec import DataSpec

# What the splits of files in TFF's format are called, by pool.
_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "heldout", "held_out"), "test": ("test",)}


_OF_SYSTEMS = ("thumbs.db", "desktop.ini", "dataset_infos.json")
"""Files that file managers and the hub leave in folders."""


_NO_CLASSES = ("_background_noise_", "unsup", "__macosx")
"""Folders beside those of classes: noise of Speech Commands, which is cut as it is needed, IMDb's texts without a
label, and what macOS archives."""


def file_source(spec: DataSpec) -> Source:
    """The records of the files of a spec, which must exist and be of one known format."""
    named = {"train": spec.files, "validation": spec.validation_files, "test": spec.test_files}
    found = {
        pool: _expand(_downloaded(paths, spec), "data.files" if pool == "train" else f"data.{pool}_files")
        for pool, paths in named.items()
        if paths
    }
    if set(found) == {"train"}:
        is_data = lambda file: format_by_name(file.path, spec.encoding) is not None  # noqa: E731
        found = splits_by_list(found["train"], is_data) or splits_by_name(found["train"], is_data)
    name = _known_format(found, spec)
    fmt = FORMATS[name]
    found = {pool: _of_format(files, name, spec) for pool, files in found.items()}
    if fmt.splits is not None:
        found = _by_split(found, fmt)
    return Source(
        {pool: Pool(functools.partial(_in_order, files, spec, fmt)) for pool, files in found.items()},
        has_clients=fmt.has_clients
        or spec.client_column is not None
        or spec.client_per_column
        or _are_clients(found, fmt),
        digest=lambda pool: _digest(found[pool], name),
        label_names=lambda: _label_names(found["train"][0], spec, fmt),
        notes=functools.partial(_notes, found, spec, fmt),
    )


def require_files(paths: Sequence[str]) -> None:
    """Checks that training files, folders or globs are there.

    Raises:
      UserError: If there is none of a name, one is named twice, or cannot be read.
    """
    _expand(paths, "data.files")


def files_below(folder: str, path: str) -> list[str]:
    """The files of a folder in their order, or its table, which the setting `path` names.

    Raises:
      UserError: If there is none, or one cannot be read.
    """
    return [file.path for file in _expand([folder], path)]


def format_name(spec: DataSpec) -> str:
    """The name of the format of the training files."""
    return _known_format({"train": _expand(_downloaded(spec.files, spec), "data.files")}, spec)


def _known_format(found: dict, spec: DataSpec) -> str:
    name = spec.format or format_of([file for files in found.values() for file in files], spec.encoding)
    if name not in FORMATS:
        raise UserError(f"{setting('data.format')}={name}: must be one of {', '.join(FORMATS)}.")
    return name


def _downloaded(paths: Sequence[str], spec: DataSpec) -> list[str]:
    cache_dir = cache_directory(spec.cache_dir)
    return [hub_directory(path, cache_dir) if path.startswith(HUB) else path for path in paths]


def _are_clients(found: dict, fmt: Format) -> bool:
    """Whether the folders of all files are clients."""
    of_name = fmt.columns_of_name
    return of_name is not None and all("client" in of_name(file.name) for files in found.values() for file in files)


def _label_names(file: File, spec: DataSpec, fmt: Format) -> tuple[str, ...]:
    with limits.readable(file.path):
        return fmt.label_names(file.path, file.split, spec.label_column) if fmt.label_names else ()


def _first_of(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *["..."] * (len(names) > 3)])


def _notes(found: dict, spec: DataSpec, fmt: Format) -> list[str]:
    """How the files are written, if formats leave that open: those that are written alike in one line."""
    paths: dict = {}
    for file in dict.fromkeys(file for files in found.values() for file in files) if fmt.settings else ():
        name = encoding_of(file.path, spec.encoding)
        said = [f"encoded as {name}"] if {name, spec.encoding or name} != {"utf-8"} else []
        said += [fmt.describe(file.path, **_settings(spec, fmt))] if fmt.describe else []
        if said:
            paths.setdefault(", ".join(said), []).append(os.path.basename(file.path))
    notes = [f"{_first_of(names)}: {said}" for said, names in paths.items()]
    if held_out := trained_on_by_name(found["train"]) if len(found) == 1 and fmt.columns_of_name is None else []:
        notes.append(
            f"{_first_of(held_out)}: trained on as all files of the folder, as their names say no split of training "
            "data; name the files of each split, or call one train."
        )
    return notes + (_time_notes(found["train"][0], spec, fmt) if spec.client_per_column else [])


def _time_notes(file: File, spec: DataSpec, fmt: Format) -> list[str]:
    """That a column of a wide table is no client."""
    read = fmt.read(file.path, spec.columns if file.split is None else file.split, **_settings(spec, fmt))
    name = columns.time_column(list(itertools.islice(read, columns.TIME_ROWS)), spec)
    where = (
        f"{os.path.basename(file.path)}: the column {name!r} increases from row to row, as times do, and is no client"
    )
    return [] if name is None else [f"{where}; to have it as one, name all series as numeric columns"]


def _settings(spec: DataSpec, fmt: Format) -> dict:
    return {name: getattr(spec, name) for name in fmt.settings}


def _expand(patterns: Sequence[str], path: str) -> list[File]:
    """The files of paths, folders and globs that a setting names."""
    files, name = [], setting(path)
    for pattern in patterns:
        pattern = os.path.expanduser(pattern)
        paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not paths:
            raise UserError(f"{name}: there is no file {pattern!r}; correct the path (now in {os.getcwd()}).")
        for path in paths:
            single = [File(path, os.path.basename(path))]
            whole = is_arrow_directory(path) or not os.path.isdir(path)
            if (table := None if whole else table_of(path)) is not None:
                single = [File(table, os.path.basename(table))]
            below = single if whole or table else _files_below(path)
            if not below:
                raise UserError(f"{name}: the folder {path!r} has no file; name another one.")
            files.extend(below)
    for file in files:
        limits.require_file(file.path)
    times = collections.Counter(os.path.realpath(file.path) for file in files)
    if twice := [path for path, number in times.items() if number > 1]:
        raise UserError(f"{name}: the file {twice[0]} is named twice; name it once.")
    return files


def _files_below(root: str) -> list[File]:
    files = []
    for directory, subdirectories, names in os.walk(root):
        here = (name for name in subdirectories if not name.startswith(".") and name.lower() not in _NO_CLASSES)
        subdirectories[:] = sorted(here)
        for name in sorted(names):
            path = os.path.join(directory, name)
            if not name.startswith(".") and name.lower() not in _OF_SYSTEMS:
                files.append(File(path, os.path.relpath(path, root), in_folder=True))
    return [file for file in files if os.path.dirname(file.name) or not is_description(file.name)] or files


def _of_format(files: Sequence[File], name: str, spec: DataSpec) -> list[File]:
    """The files without those of a folder that are of another kind, such as a README beside Parquet files."""
    if name == "text":
        # Beside a text, files of its name have annotations of it, as brat's have.
        texts = {os.path.splitext(file.path)[0] for file in files if ending(file.path) == ".txt"}
        beside = lambda file: ending(file.path) != ".txt" and os.path.splitext(file.path)[0] in texts  # noqa: E731
        return [file for file in files if not (file.in_folder and beside(file))]
    names = [format_by_name(file.path, spec.encoding) for file in files]
    if spec.format is not None or not any(names):  # files of any ending may be of it
        names = [
            None if found is None and name in names and not ending(f.path) else name for f, found in zip(files, names)
        ]
    return [file for file, found in zip(files, names) if not file.in_folder or found is not None]


def _by_split(found: dict, fmt: Format) -> dict:
    """Gives each pool the split of the files that is meant; one file may serve several."""
    pools: dict = {}
    for pool, files in found.items():
        for file in files:
            with limits.readable(file.path):
                there = fmt.splits(file.path)
            for target, names in _SPLIT_NAMES.items():
                split = next((name for name in names if name in there), None)
                if split is None and target == pool and len(there) == 1:
                    split = there[0]
                own = target == pool
                # A training file brings its own test clients, unless other files are named for them.
                if split is not None and (own or (pool == "train" and target not in found)):
                    pools.setdefault(target, []).append(dataclasses.replace(file, split=split))
                elif own:
                    raise UserError(
                        f"{file.path}: none of the splits {', '.join(there)} is called "
                        f"{names[0]!r}; rename the one that is meant."
                    )
    return pools


def _in_order(
    files: Sequence[File],
    spec: DataSpec,
    fmt: Format,
    needed: frozenset | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[Chunk]:
    """The chunks of files, sorted by the time of their rows if a setting names it; see `Pool`."""
    chunks = _chunks(files, spec, fmt, needed, left_out or LeftOut())
    if spec.sorted_by is None:
        yield from chunks
        return
    chunks = list(chunks)
    found = [pair for chunk in chunks for pair in chunk.rows]
    for where, row in found:
        columns.require_column(where, row, spec.sorted_by, "time_column")
    for rows in grouped(by_time(found, spec.sorted_by), fmt.chunk_rows):
        yield dataclasses.replace(chunks[0], rows=rows, columns=columns.available(rows[0][1], spec))


def _chunks(
    files: Sequence[File], spec: DataSpec, fmt: Format, needed: frozenset | None, left_out: LeftOut
) -> Iterator[Chunk]:
    seen: dict = {}
    for file in files:
        empty, before = True, left_out.rows
        convert = functools.partial(_converted, file.path, spec, fmt, seen)
        usable = _usable(_rows(file, spec, fmt), spec, needed, left_out)
        for rows in limits.chunks(file.path, usable, fmt.chunk_rows):
            empty = False
            yield Chunk(rows, columns.available(rows[0][1], spec), convert, left_out)
        if empty and left_out.rows > before:
            raise UserError(f"{file.path}: none of its rows can be used, such as: {left_out.first[-1]}")
        if empty:
            raise UserError(f"{file.path}: the file has no record; fill it or leave it out.")


def _usable(rows: Rows, spec: DataSpec, needed: frozenset | None, left_out: LeftOut) -> Rows:
    """The rows that can be read; of others the first is an error, or all are counted.

    Unless it says what is `needed`, every pass leaves out the same, whatever it reads of a row: those without a value
    in one of the columns that the data have of those that settings name.
    """
    skips, rows = spec.on_bad_rows == "skip", iter(rows)
    head = list(itertools.islice(rows, CHUNK_ROWS if skips else 0))
    wants = frozenset().union(*(columns.available(row, spec) for _, row in head if isinstance(row, dict)))
    if not {"question", "context"} <= wants:
        wants -= {"answers"}  # a column that is called so has answers of another kind
    if needed is not None:
        wants = frozenset(column for column in needed if any(_is_readable(pair, spec, column) for pair in head))
    for pair in itertools.chain(head, rows):
        try:
            if isinstance(pair[1], BadRow):
                raise pair[1]
            if skips:
                columns.check(pair, spec, wants)
        except UserError as error:
            if not skips and not isinstance(error, ClientWithoutExample):
                raise
            left_out.add(error)
            continue
        yield pair


def _is_readable(pair: tuple, spec: DataSpec, column: str) -> bool:
    """Whether a row has a value of a record column."""
    try:
        columns.check(pair, spec, frozenset([column]))
    except UserError:
        return False
    return True


def _converted(path: str, spec: DataSpec, fmt: Format, seen: dict, rows: Sequence, wants: frozenset) -> pd.DataFrame:
    chunk = columns.normalized(rows, spec, wants)
    for name in spec.number_names if "numbers" in chunk else ():
        seen["number", name] = columns.telling([*seen.get(("number", name), ()), *rows], name)
    if fmt.one_file_a_client and "client" in chunk and spec.client_column is None:
        for client in chunk["client"].unique():
            if seen.setdefault(client, path) != path:
                raise UserError(f"{path}: the client {client!r} is in {seen[client]} as well; rename or merge them.")
    return chunk


def _rows(file: File, spec: DataSpec, fmt: Format) -> Rows:
    read = fmt.read(file.path, spec.columns if file.split is None else file.split, **_settings(spec, fmt))
    if fmt.columns_of_name is not None:
        of_name = fmt.columns_of_name(file.name)
        return ((where, {**of_name, **row} if isinstance(row, dict) else row) for where, row in read)
    if spec.client_per_column:
        return columns.one_client_a_column(read, spec)
    read = with_sentences(read, spec.text_column[0], spec.label_column, spec.client_column)
    annotated = with_annotations(read, spec.text_column[0], spec.label_column)
    return with_media(columns.with_nested(annotated, spec), file.path)


def _digest(files: Sequence[File], name: str) -> str:
    # Names count where they are data: as the clients.
    fmt = FORMATS[name]
    names = [file.name for file in files] if fmt.columns_of_name is not None else []
    splits = [file.split for file in files]
    paths = (path for f in files for path in (fmt.contents(f.path, f.split) if fmt.contents else [f.path]))
    content = f"{name} {file_digest(paths)} {names} {splits}"
    return hashlib.sha256(content.encode()).hexdigest()


FILES = DataSet(file_source)
