"""Formats made of lines: CSV, TSV, JSON Lines, CoNLL, plays, and folders of text.

A reader takes a path and the `data.columns` and yields (place, row) pairs: a row is a dictionary from
the file's own column names to values.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import sys
from collections.abc import Iterator, Sequence

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.sources import FILES_PER_CHUNK, Format, Rows


def utf8_lines(path: str) -> Iterator[str]:
    """The lines of a file with their ends, decoded one by one so that a bad byte has a line number."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: the byte 0x{line[error.start]:02x} is not UTF-8; "
                    "convert the file, for instance with `iconv -f latin1 -t utf-8`."
                ) from error


def read_delimited(path: str, columns: Sequence[str], **dialect) -> Rows:
    """Separated values, of a dialect of the module `csv`; the first line names the columns unless given."""
    # One text may well be longer than the module's default of 128 KiB.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(utf8_lines(path), strict=True, **dialect)
    names = list(columns)
    said_by = f"{setting('data.columns')} names" if columns else "the first line has"
    try:
        before = 0
        for fields in reader:
            line, before = before + 1, reader.line_num
            if not fields:
                continue
            if not names:
                names = fields
                if twice := [name for name in names if names.count(name) > 1]:
                    raise UserError(
                        f"{path}, line 1: the column {twice[0]!r} is there twice; rename one, or give "
                        f"{setting('data.columns')} if this line is no header."
                    )
            elif len(fields) != len(names):
                raise UserError(
                    f"{path}, line {line}: {len(fields)} fields where {said_by} {len(names)} "
                    f"({', '.join(names)}); correct the line, its separators and quotes."
                )
            else:
                yield f"{path}, line {line}", dict(zip(names, fields))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: cannot be parsed ({error}); correct its quotes and separators."
        ) from error


def read_jsonl(path: str, columns: Sequence[str]) -> Rows:
    """JSON Lines: one object a line."""
    for number, line in enumerate(utf8_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}: no valid JSON ({error.msg} at column {error.colno}); correct the line."
            ) from error
        if not isinstance(row, dict):
            raise UserError(
                f"{path}, line {number}: a {type(row).__name__} where an object like "
                '{"text": ..., "label": ...} is expected; correct the line.'
            )
        yield f"{path}, line {number}", row


def read_conll(path: str, columns: Sequence[str]) -> Rows:
    """CoNLL: a line a word, a blank line ends a sentence; token first and tag last, unless columns are given.

    A row has the values of each column in a list.
    """
    sentence, width, start = [], len(columns) or None, 0
    for number, line in enumerate(itertools.chain(utf8_lines(path), [""]), start=1):
        fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if not line.strip() or fields[0] == "-DOCSTART-":
            if sentence:
                yield f"{path}, line {start}", _sentence(path, start, sentence, columns)
            sentence = []
            continue
        width = width or len(fields)
        if len(fields) < 2 or len(fields) != width or not fields[0] or not fields[-1]:
            wanted = ", ".join(columns) if columns else "token and tag"
            raise UserError(
                f"{path}, line {number}: {line.strip()!r} is no {wanted}, separated by TABs or blanks like the lines "
                "before; correct the line."
            )
        start = start if sentence else number
        sentence.append(fields)


def _sentence(path, start, lines, columns) -> dict:
    by_field = [list(values) for values in zip(*lines)]
    if columns:
        return dict(zip(columns, by_field))
    numbers = [list(map(str, range(first, first + len(lines)))) for first in (0, 1)]
    if len(by_field) > 2 and len(lines) > 1 and by_field[0] in numbers:
        raise UserError(
            f"{path}, line {start}: the first of {len(by_field)} fields numbers the words: name all fields with "
            f"{setting('data.columns')}, such as number,tokens,tags."
        )
    return {"tokens": by_field[0], "tags": by_field[-1]}


def read_dialogue(path: str, columns: Sequence[str]) -> Rows:
    """Plays: turns separated by blank lines, the first line `Speaker:`, the others what is said.

    A turn in which nothing is said is no record.
    """
    turn: list = []
    for number, line in enumerate(itertools.chain(utf8_lines(path), [""]), start=1):
        if line.strip():
            turn.append((number, line.rstrip("\r\n")))
        elif turn:
            yield from _turn(path, turn)
            turn = []


def _turn(path: str, turn: list) -> Rows:
    number, speaker = turn[0]
    if not speaker.rstrip().endswith(":") or not speaker.strip(": "):
        raise UserError(
            f"{path}, line {number}: {speaker[:60]!r} opens a turn and is no `Speaker:`; put the "
            "speaker and a colon on a line of its own, and a blank line between turns only."
        )
    said = "\n".join(line for _, line in turn[1:])
    if said:
        yield f"{path}, line {number}", {"client": speaker.strip().rstrip(":"), "text": said}


def read_text(path: str, columns: Sequence[str]) -> Rows:
    """A file as one text; who owns it is decided by its name, by whoever lists the files."""
    text = "".join(utf8_lines(path))
    if text:
        yield path, {"text": text}


CSV = Format(read_delimited, (".csv",))
# Quotes are plain characters, as the format (IANA) has it.
TSV = Format(functools.partial(read_delimited, delimiter="\t", quoting=csv.QUOTE_NONE), (".tsv",))
JSONL = Format(read_jsonl, (".jsonl", ".ndjson"))
CONLL = Format(read_conll, (".conll", ".bio", ".iob"))
DIALOGUE = Format(read_dialogue, has_clients=True)
TEXT = Format(read_text, has_clients=True, one_file_a_client=True, named_clients=True, chunk_rows=FILES_PER_CHUNK)
