"""Bounds on what is made of a file, and a sentence for all that can go wrong while one is read.

A file comes from anybody: it may hold a thousand times its size, or be damaged in a way that its parser never met.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator

import numpy as np

from tff_tx.core.errors import UserError
from tff_tx.core.text import one_line
from tff_tx.datasets.sources import Rows

CHUNK_BYTES = 2**26
"""Rows that are held at the same time are fewer than usual if they take more than that."""
ROW_BYTES = 2**30
# Texts in columns that repeat themselves become a few times as large; a bomb does a thousand times and more.
_MOST_TIMES, _ALWAYS_BYTES = 200, 2**28


def require_file(path: str) -> None:
    """Rejects what is no file with content: a pipe, a device, a socket, a link to nowhere, or what cannot be opened."""
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISBLK: "a device", stat.S_ISCHR: "a device"}
    try:
        mode = os.stat(path).st_mode
        readable = os.access(path, os.R_OK)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); correct the path or leave it out.") from error
    if what := next((name for is_one, name in kinds.items() if is_one(mode)), None):
        raise UserError(f"{path}: this is {what}, and data are read several times; write them into a file.")
    if not readable:
        raise UserError(f"{path}: you may not read it: change its permissions or leave it out.")


def require_bounded(path: str, num_bytes: float) -> None:
    """Rejects a compressed file that becomes larger than any data do that somebody has collected."""
    size = sum(entry.stat().st_size for entry in os.scandir(path)) if os.path.isdir(path) else os.path.getsize(path)
    most = _ALWAYS_BYTES + _MOST_TIMES * size
    if num_bytes > most:
        raise UserError(
            f"{path}: {size} bytes become {num_bytes / 1e6:.0f} MB, and of such a file at most "
            f"{most / 1e6:.0f} MB are read; write it with less compression, or leave out what repeats itself."
        )


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Says in a sentence that a file cannot be read, whatever its parser raises at what it did not expect."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of libraries, each of which has its own
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {one_line(error)}); it is damaged or of another format: "
            "replace it or leave it out."
        ) from error


def chunks(path: str, rows: Rows, size: int) -> Iterator[list]:
    """Gathers rows of a file into lists of at most `size`, or of fewer that take about `CHUNK_BYTES`."""
    chunk, weight, total = [], 0, 0
    with readable(path):
        for row in rows:
            chunk.append(row)
            values = row[1].values()
            weight += sum(len(value) if type(value) is str else _num_bytes(value) for value in values)
            if pictures := sum(_num_pixels(value) for value in values if isinstance(value, (bytes, dict))):
                weight, total = weight + pictures, total + pictures
                require_bounded(path, total)
            if len(chunk) >= size or weight >= CHUNK_BYTES:
                yield chunk
                chunk, weight = [], 0
    if chunk:
        yield chunk


def _num_bytes(value) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list):
        return sys.getsizeof(value) + sum(map(_num_bytes, value))
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(map(_num_bytes, value.values()))
    return sys.getsizeof(value)


def _num_pixels(value) -> int:
    """Bytes that a picture becomes, by its head; 0 for what is none."""
    encoded = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(encoded, bytes):
        return 0
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.width * image.height * len(image.getbands())
    except Exception:  # said where it is decoded
        return 0
