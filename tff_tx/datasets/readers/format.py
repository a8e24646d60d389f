"""A file format."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from tff_tx.datasets.records import CHUNK_ROWS

Rows = Iterator[tuple[str, dict[str, Any]]]
"""Pairs of a row's place, for messages, and the row: a dictionary from the file's own column names to values."""


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of one format are read.

    Attributes:
      read: (path, column names of files without a header line) -> `Rows`, read as they are asked for; with `splits`,
        (path, split).
      extensions: File name extensions that identify the format, in lower case and with their dot.
      has_clients: Whether the format itself says who owns what, in the column "client".
      one_file_a_client: Whether a client in two files is a mistake.
      named_clients: Whether a file is a client with the name of the file.
      chunk_rows: Rows a chunk.
      splits: Path -> names of the splits in the file, where one file has several.
    """

    read: Callable[[str, Sequence[str]], Rows]
    extensions: tuple[str, ...] = ()
    has_clients: bool = False
    one_file_a_client: bool = False
    named_clients: bool = False
    chunk_rows: int = CHUNK_ROWS
    splits: Callable[[str], list[str]] | None = None
