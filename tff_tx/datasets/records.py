"""What flows between readers and encoders: chunks of records, and the sources that yield them.

A chunk is a pandas DataFrame of at most `CHUNK_ROWS` rows. Its columns, of which a source yields
those it was asked for:

    text     str, one text
    tokens   list of str, one sentence in words        tags   list of str, one tag a word
    pixels   numpy array, one image
    label    str, as it stands in the data
    client   str, who owns the example
    file, line   where the row came from; `line` counts from 1 (rows, where there are no lines)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Callable

import pandas as pd

CHUNK_ROWS = 10_000

# Asked for a set of column names, a fresh pass over the records of one split.
Read = Callable[[frozenset], Iterator[pd.DataFrame]]


@dataclasses.dataclass(frozen=True)
class Source:
    """Records that can be read several times, never all at once.

    Attributes:
        pools: Split name ("train", and "validation" or "test" if the data have their own) -> read.
        digest: Returns a string that changes when the content changes.
        has_clients: Whether the records carry a `client`.
        label_names: The label names in their known order, or None if they have to be looked for.
        tagged: Whether labels are one a word (`tags`) instead of one a record (`label`).
    """

    pools: Mapping[str, Read]
    digest: Callable[[], str]
    has_clients: bool
    label_names: tuple | None = None
    tagged: bool = False


def chunks_of(rows: Iterable[Mapping], size: int = CHUNK_ROWS) -> Iterator[pd.DataFrame]:
    """Gathers row dictionaries, which all have the same keys, into chunks."""
    gathered = []
    for row in rows:
        gathered.append(row)
        if len(gathered) == size:
            yield pd.DataFrame(gathered)
            gathered = []
    if gathered:
        yield pd.DataFrame(gathered)


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


def place(row) -> str:
    """Where a row of a chunk came from, for messages."""
    return f"{row.file}, line {row.line}"
