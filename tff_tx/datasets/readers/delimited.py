"""Tables as text: CSV, TSV, and what else separates values."""

from __future__ import annotations

import collections
import csv
import functools
import itertools
import sys
from collections.abc import Iterator, Sequence

from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import listed
from tff_tx.datasets.readers import values
from tff_tx.datasets.readers.dialects import SEPARATORS, dialect_of
from tff_tx.datasets.readers.opening import TextLines
from tff_tx.datasets.sources import BadRow, Format, Rows

_ROWS_TO_TELL, _FEWEST_NAMES = 4, 3


def read_delimited(
    path: str, columns: Sequence[str], *, usual: str, delimiter: str | None = None, encoding: str | None = None
) -> Rows:
    """Separated values, of a recognized dialect; the first line names the columns unless given.

    Columns without a name are called by their place, "column 3". A first row of other names is an error.
    """
    rows = _rows(path, columns, usual=usual, delimiter=delimiter, encoding=encoding)
    head = [] if columns else list(itertools.islice(rows, _ROWS_TO_TELL))
    if len(head) == _ROWS_TO_TELL and _are_names([row for _, row in head]):
        names = listed(map(repr, list(head[0][1].values())[:3]))
        error = BadRow(
            f"{head[0][0]}: {names} stand where the next lines have numbers, as names of columns do: remove what "
            "stands above this line."
        )
        head[0] = (head[0][0], error)
    yield from itertools.chain(head, rows)


def _are_names(rows: Sequence) -> bool:
    """Whether the first row has a name in all of its columns, and the others nothing but numbers."""
    if not all(isinstance(row, dict) for row in rows):
        return False
    first, *others = ([*row.values()] for row in rows)
    named = len(first) >= _FEWEST_NAMES and len({*first}) == len(first) and all(map(str.strip, first))
    return named and not any(map(values.is_number, first)) and all(values.is_number(v) for row in others for v in row)


class RepeatedName(UserError):
    """A first line in which a name is twice, as in records."""

    def __init__(self, message: str, names: Sequence[str] = ()):
        super().__init__(message)
        self.names = names


def _rows(path: str, columns: Sequence[str], *, usual: str, delimiter: str | None, encoding: str | None) -> Rows:
    # One text may well be longer than the module's default of 128 KiB.
    csv.field_size_limit(sys.maxsize)
    # What separates one column from no other cannot be recognized.
    known = usual if len(columns) == 1 and delimiter is None else _character(delimiter)
    dialect = dialect_of(path, usual, known, encoding)
    names, header = list(columns), None
    said_by = f"{setting('data.columns')} names" if columns else "the first line has"
    with TextLines(path, encoding) as lines:
        if dialect.hint:
            next(lines)
        for line, fields in _numbered(path, dialect.records(lines)):
            line += dialect.hint
            if isinstance(fields, BadRow):
                yield f"{path}, line {line}", fields
            elif not names:
                names, header = _named(path, line, [""] * dialect.row_names + fields), fields
            elif header and len(names) > 1 and _repeats(fields, header):
                yield (
                    f"{path}, line {line}",
                    BadRow(
                        f"{path}, line {line}: it repeats the first line, as in joined files; remove it, "
                        f"or give {setting('data.columns')} if the first line is no header."
                    ),
                )
            elif (row := _row(names, fields)) is None:
                remedy = ", or remove what stands above the header" if len(names) == 1 else ""
                remedy = ", or give what it lacks an empty field" if columns and len(fields) < len(names) else remedy
                yield (
                    f"{path}, line {line}",
                    BadRow(
                        f"{path}, line {line}: {len(fields)} fields where {said_by} {len(names)} "
                        f"({listed(names)}); correct the line, its separators and quotes{remedy}."
                    ),
                )
            else:
                yield f"{path}, line {line}", row


def _repeats(fields: Sequence[str], header: Sequence[str]) -> bool:
    """Whether a line has the names of the first, but for blanks and case, in which exports differ."""
    if len(fields) != len(header) or fields[0].strip().casefold() != header[0].strip().casefold():
        return False
    return [name.strip().casefold() for name in fields] == [name.strip().casefold() for name in header]


def _numbered(path: str, reader) -> Iterator[tuple]:
    """(line, values or what is wrong with them) of records that are not empty."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            fields = BadRow(
                f"{path}, line {reader.line_num}: cannot be parsed ({error}); correct its quotes and separators."
            )
            if "unexpected end" in str(error):
                # Whatever follows an open quote is gone.
                raise fields from error
        except BadRow as error:
            fields = error
        if fields is None:
            return
        if fields:
            yield line, fields


def _named(path: str, line: int, fields: Sequence[str]) -> list[str]:
    names = [name.strip() or f"column {number}" for number, name in enumerate(fields, start=1)]
    if twice := [name for name, times in collections.Counter(names).items() if times > 1]:
        raise RepeatedName(
            f"{path}, line {line}: the column {twice[0]!r} is there twice; rename one, or give the {len(names)} names "
            f"as {setting('data.columns')} if this line is no header.",
            names,
        )
    return names


def _row(names: Sequence[str], fields: Sequence[str]) -> dict | None:
    """The values by name; None if they are too many or too few, but for empty ones at the end of lines."""
    missing = names[len(fields) :]
    if any(fields[len(names) :]) or any(name != f"column {n}" for n, name in enumerate(missing, len(fields) + 1)):
        return None
    return {**dict(zip(names, fields)), **dict.fromkeys(missing, "")}


def _character(delimiter):
    """The delimiter of a setting, which may spell out a TAB."""
    return {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)


def describe_delimited(path: str, *, usual: str, delimiter: str | None = None, encoding: str | None = None) -> str:
    """What separates the values of a file."""
    dialect = dialect_of(path, usual, _character(delimiter), encoding)
    escapes = ", with backslashes as escapes" if dialect.escaped else ""
    quotes = "" if dialect.quoted or dialect.delimiter != usual else ", quotes are text"
    return f"values separated by {SEPARATORS.get(dialect.delimiter, repr(dialect.delimiter))}{quotes}{escapes}"


def _format(usual: str, *extensions: str) -> Format:
    how = {"usual": usual}
    return Format(
        functools.partial(read_delimited, **how),
        extensions,
        settings=("delimiter", "encoding"),
        describe=functools.partial(describe_delimited, **how),
    )


CSV, TSV = _format(",", ".csv", ".data"), _format("\t", ".tsv")
