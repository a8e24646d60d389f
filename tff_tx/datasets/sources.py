"""What flows between readers and encoders: chunks of records, and the sources, formats and data sets that yield them.

A chunk becomes a pandas DataFrame of at most `CHUNK_ROWS` rows with the columns that are wanted, of:

    texts    list of str, those of several text columns
    text     str, one text                             target  str, what is to be made of it
    question str, and   context  str, the text to look for the answer in
    answers  list of (str, int), answers with the place of their first character in the context; empty: there is none
    messages list of dict of str, `role` and `content` of each message of a conversation
    tokens   list of str, one sentence in words        tags   list of str, one tag a word
    pixels   numpy array, one image                    audio    a recording, see `as_recording`
    numbers  float64 array, those of the numeric columns        categories  list of str, of the categorical columns
    label    str, as it stands in the data                 labels list of str, of a record with any number of them
    client   str, who owns the example
    row      dict, the row of a file as it stands there, by the file's own column names
    where    str, the place of the row, for messages: "train.csv, line 7"
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

from tff_tx.config.registries import DATASETS
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.spec import DataSpec

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 1000
_FIRST = 5
# Where a row is a whole file, fewer make a chunk.
FILES_PER_CHUNK = 64


class BadRow(UserError):
    """A mistake in one row, without which the others can be read."""


class ClientWithoutExample(BadRow):
    """A client that the data name, and have no example of; it is always left out."""


@dataclasses.dataclass
class LeftOut:
    """What a pass over records left out.

    Attributes:
      rows: The number of rows that cannot be read.
      first: What is wrong with the first of them; settings in it are made by `setting`.
      clients: The number of clients without an example.
    """

    rows: int = 0
    first: list[str] = dataclasses.field(default_factory=list)
    clients: int = 0

    def add(self, error: UserError) -> None:
        """Counts a row, or a client without any."""
        if isinstance(error, ClientWithoutExample):
            self.clients += 1
            return
        self.rows += 1
        self.first += [error.args[0]] * (len(self.first) < _FIRST)


Rows = Iterator[tuple[str, Any]]
"""Pairs of a row's place, for messages, and the row: a dictionary from the file's own column names to values; or the
`BadRow` that says why there is none."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Successive rows of a pool, parsed but not yet converted to records.

    Attributes:
      rows: The parsed rows; not empty.
      columns: The record columns that the first row has.
      convert: (rows, record columns) -> DataFrame with these and `where`; raises a `UserError` for a column or value
        that is missing or of the wrong kind.
      left_out: What the pass left out so far; complete with its last chunk.
    """

    rows: Sequence[Any]
    columns: frozenset
    convert: Callable[[Sequence[Any], frozenset], pd.DataFrame]
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)

    def read(self, wants: Iterable[str], most: int | None = None) -> pd.DataFrame:
        """The wanted record columns of the chunk, or of its first `most` rows."""
        return self.convert(self.rows[:most], frozenset(wants))


@dataclasses.dataclass(frozen=True)
class Pool:
    """The records of one split as the data come; calling it with record columns reads them, `chunks` as they are.

    Of files, `chunks` takes `needed`, the record columns without which a row is skipped where rows are, by default all
    that settings name, and `left_out`, which counts such rows.
    """

    chunks: Callable[..., Iterator[Chunk]]

    def __call__(self, wants: Iterable[str]) -> Iterator[pd.DataFrame]:
        """A pass over the wanted columns."""
        return (chunk.read(wants) for chunk in self.chunks())


@dataclasses.dataclass(frozen=True)
class Source:
    """Records that can be read several times, never all at once.

    Attributes:
      pools: Split name ("train", and "validation" or "test" if the data have their own) -> records.
      has_clients: Whether the records carry a `client`.
      digest: Split name -> a string that changes when the split's content does, without parsing it; None if only the
        records can say.
      numeric_names: Names of `numbers`, where the data themselves have them.
      label_names: The names of the labels in order, where files have them.
      notes: What was recognized of the files, in lines; reads no more than their beginnings.
    """

    pools: Mapping[str, Pool]
    has_clients: bool
    digest: Callable[[str], str] | None = None
    numeric_names: tuple = ()
    label_names: Callable[[], tuple[str, ...]] = tuple
    notes: Callable[[], list[str]] = list

    def columns(self) -> frozenset:
        """The record columns that the first training record has."""
        first = next(self.pools["train"].chunks(), None)
        return frozenset() if first is None else first.columns


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of one format are read.

    Attributes:
      read: (path, column names of files without a header line) -> `Rows`, read as they are asked for; with `splits`,
        (path, split).
      extensions: File name extensions that identify the format, in lower case and with their dot.
      has_clients: Whether the format itself says who owns what, in the column "client".
      one_file_a_client: Whether a client in two files is a mistake.
      columns_of_name: Path of a file below the named folder -> further columns of its rows, such as its client.
      chunk_rows: Rows a chunk.
      settings: Fields of a `DataSpec` that `read` and `describe` take by name.
      label_names: (path, split, column) -> the names of a column's labels in order, where files have them.
      contents: (path, split) -> the files of what is one file to `read`.
      describe: (path, settings) -> how the values of a file are written, in words, if files of the format differ.
      splits: Path -> names of the splits in the file, where one file has several.
    """

    read: Callable[[str, Sequence[str]], Rows]
    extensions: tuple[str, ...] = ()
    has_clients: bool = False
    one_file_a_client: bool = False
    columns_of_name: Callable[[str], dict[str, str]] | None = None
    chunk_rows: int = CHUNK_ROWS
    splits: Callable[[str], list[str]] | None = None
    settings: tuple[str, ...] = ()
    label_names: Callable[[str, str | None, str], tuple[str, ...]] | None = None
    contents: Callable[[str, str], list[str]] | None = None
    describe: Callable[..., str] | None = None


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Where the records of a named data set come from, and what it is trained with unless something else is chosen.

    Attributes:
      open: From a `DataSpec` to the records; heavy libraries are imported only when it is called.
      defaults: Default settings of a run: "task", "architecture", "tokenizer", "model_config" and "local_steps", those
        that apply.
      label_names: The labels in order, whatever the records are; empty if they must be looked for.
    """

    open: Callable[[DataSpec], Source]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    label_names: tuple[str, ...] = ()


def read_records(spec: DataSpec, *columns: str) -> Iterator[pd.DataFrame]:
    """The training records of a data set, in chunks with these columns; "client" only if they have it.

    Raises:
      UserError: If the data cannot be read.
    """
    source = open_source(spec)
    return source.pools["train"](set(columns) if "client" in source.columns() else set(columns) - {"client"})


def read_files(spec: DataSpec, *columns: str, left_out: LeftOut) -> Iterator[pd.DataFrame]:
    """The records of files, whatever split these are called by, in chunks with these columns; see `read_records`.

    Args:
      spec: The files.
      *columns: Record columns.
      left_out: Counts the rows that lack one of these columns, which are left out where bad rows are skipped.

    Raises:
      UserError: If the files cannot be read.
    """
    pools, wants = open_source(spec).pools.values(), frozenset(columns)
    first = next((chunk.columns for pool in pools for chunk in pool.chunks(wants)), frozenset())
    wants -= {"client"} - first
    return (chunk.read(wants) for pool in pools for chunk in pool.chunks(wants, left_out))


def open_source(spec: DataSpec) -> Source:
    """The records of a data set; nothing but names of files and formats is checked before they are read."""
    return DATASETS[spec.dataset].open(spec)


def grouped(rows: Iterable, size: int = CHUNK_ROWS) -> Iterator[list]:
    """Gathers rows into lists of at most `size`."""
    rows = iter(rows)
    return iter(lambda: list(itertools.islice(rows, size)), [])


def record_pool(name: str, columns: frozenset, rows: Callable[[], Iterable[Mapping]], size: int = CHUNK_ROWS) -> Pool:
    """A pool of rows that are records already: mappings from `columns` and "where" to values; `size` a chunk."""

    def convert(rows: Sequence[Mapping], wants: frozenset) -> pd.DataFrame:
        import pandas as pd

        require_columns(name, columns, wants)
        return pd.DataFrame(list(rows))

    return Pool(lambda: (Chunk(chunk, columns, convert) for chunk in grouped(rows(), size)))


def require_columns(name: str, columns: frozenset, wants: frozenset) -> None:
    """Rejects record columns that data, named in the message, do not have."""
    if missing := wants - columns:
        raise UserError(
            f"{setting('data.dataset')}: {name} has no {', '.join(sorted(missing))}, only "
            f"{', '.join(sorted(columns - {'client'}))}; choose another {setting('task.kind')} or data set."
        )


def file_digest(paths: Iterable[str]) -> str:
    """SHA-256 of the files' contents in their order, whatever their names; hexadecimal."""
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            one = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                one.update(block)
        total.update(one.digest())
    return total.hexdigest()
