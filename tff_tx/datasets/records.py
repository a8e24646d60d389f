"""What flows between readers and encoders: chunks of records, and the sources that yield them.

A chunk is a pandas DataFrame of at most `CHUNK_ROWS` rows. Its columns, of which a source yields
those it was asked for:

    text     str, one text                             target  str, what is to be made of it
    question str, and   context  str, the text to look for the answer in
    answers  list of (str, int), answers with the place of their first character in the context; empty: there is none
    tokens   list of str, one sentence in words        tags   list of str, one tag a word
    pixels   numpy array, one image
    numbers  float64 array, those of the numeric columns        categories  list of str, of the categorical columns
    label    str, as it stands in the data
    client   str, who owns the example
    where    str, the place of the row, for messages: "train.csv, line 7"
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Callable

import pandas as pd

CHUNK_ROWS = 1000
# Where a row is a whole file, fewer make a chunk.
FILES_PER_CHUNK = 64

# Asked for a set of column names, a fresh pass over the records of one split.
Read = Callable[[frozenset], Iterator[pd.DataFrame]]


@dataclasses.dataclass(frozen=True)
class Source:
    """Records that can be read several times, never all at once.

    Attributes:
        pools: Split name ("train", and "validation" or "test" if the data have their own) -> read.
        digest: Returns a string that changes when the content changes.
        has_clients: Whether the records carry a `client`.
        columns: Returns the record columns that there are, going by the first record.
        label_names: The label names in their known order, or None if they have to be looked for.
        numeric_names: What `numbers` are, where the data themselves say it.
    """

    pools: Mapping[str, Read]
    digest: Callable[[], str]
    has_clients: bool
    columns: Callable[[], frozenset]
    label_names: tuple | None = None
    numeric_names: tuple = ()

    @property
    def tagged(self) -> bool:
        """Whether labels are one a word (`tags`) instead of one a record (`label`)."""
        return "tags" in self.columns()


def grouped(rows: Iterable, size: int = CHUNK_ROWS) -> Iterator[list]:
    """Gathers rows into lists of at most `size`."""
    rows = iter(rows)
    return iter(lambda: list(itertools.islice(rows, size)), [])


def chunks_of(rows: Iterable[Mapping], size: int = CHUNK_ROWS) -> Iterator[pd.DataFrame]:
    """Gathers row dictionaries, which all have the same keys, into chunks."""
    return map(pd.DataFrame, grouped(rows, size))


def file_digest(paths: Iterable[str]) -> str:
    """SHA-256 of the files' contents in their order, whatever their names; hexadecimal."""
    total = hashlib.sha256()
    for path in paths:
        one = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                one.update(block)
        total.update(one.digest())
    return total.hexdigest()
