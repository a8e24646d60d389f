"""Texts: plays, and folders of text.

A reader takes a path and the `data.columns` and yields (place, row) pairs: a row is a dictionary from
the file's own column names to values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tff_tx.core.errors import UserError
from tff_tx.datasets.readers.folders import columns_of_name
from tff_tx.datasets.readers.opening import TextLines
from tff_tx.datasets.readers.spans import brat_file, with_brat
from tff_tx.datasets.sources import FILES_PER_CHUNK, BadRow, Format, Rows


def read_dialogue(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """Plays: turns separated by blank lines, the first line `Speaker:`, the others what is said.

    A turn in which nothing is said is no record.
    """
    turn: list = []
    with TextLines(path, encoding) as lines:
        for number, line in enumerate(itertools.chain(lines, [""]), start=1):
            if line.strip():
                turn.append((number, line.rstrip("\r\n")))
            elif turn:
                yield from _turn(path, turn)
                turn = []


def _turn(path: str, turn: list) -> Rows:
    number, speaker = turn[0]
    if not speaker.rstrip().endswith(":") or not speaker.strip(": "):
        message = (
            f"{path}, line {number}: {speaker[:60]!r} opens a turn and is no `Speaker:`; put the "
            "speaker and a colon on a line of its own, and a blank line between turns only."
        )
        yield f"{path}, line {number}", BadRow(message)
        return
    said = "\n".join(line for _, line in turn[1:])
    if said:
        yield f"{path}, line {number}", {"client": speaker.strip().rstrip(":"), "text": said}


def has_labelled_lines(path: str, encoding: str | None = None) -> bool:
    """Whether a file begins as PubMed RCT's do: a line of ### and a number, and below it a label, a TAB and a text."""
    try:
        with TextLines(path, encoding) as file:
            first, second = next(file, ""), next(file, "")
    except (OSError, UserError):
        return False
    return re.fullmatch(r"###\d+\s*", first) is not None and second.count("\t") == 1


def read_text(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """A file as one text, with brat's annotations beside it; whoever lists the files says by its name who owns it."""
    with TextLines(path, encoding) as lines:
        text = "".join(lines)
    if text:
        yield path, with_brat(path, {"text": text}, encoding)


DIALOGUE = Format(read_dialogue, has_clients=True, settings=("encoding",))
TEXT = Format(
    read_text,
    has_clients=True,
    one_file_a_client=True,
    columns_of_name=lambda name: {**columns_of_name(name), "client": name},
    chunk_rows=FILES_PER_CHUNK,
    settings=("encoding",),
    contents=lambda path, split: [path, *([beside] if (beside := brat_file(path)) else [])],
)
