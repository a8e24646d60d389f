"""How a file separates and quotes its values: recognized by its beginning, as Excel, pandas, R and MySQL write it."""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import functools
import re
from collections.abc import Sequence

from tff_tx.core.errors import UserError
from tff_tx.datasets.readers import values
from tff_tx.datasets.readers.opening import TextLines

SEPARATORS = {",": "commas", "\t": "TABs", ";": "semicolons", "|": "|", "::": "::", " ": "blanks"}
"""Separators that are recognized, and what they are called."""

# Python's reader takes one character; ASCII's separator of units is in no text.
_ONE_FOR_SEVERAL = "\x1f"
_HEAD_LINES, _HEAD_CHARACTERS = 500, 2**16
_FEWEST_ROWS, _FEWEST_BETWEEN_COMMAS = 5, 3
_EXCEL_HINT = re.compile(r"sep=(.)\r?\n?$")
# What MySQL writes for NULL where it escapes by backslashes.
_NULL = re.compile(r"(?:^|(?<=[\t,;|]))\\N(?=[\t,;|\r\n]|$)")
# In a value: it begins or ends in quotes for another separator.
_STRAY_QUOTE = re.compile(r'[\t,;|]"|"[\t,;|]')
_ALL_QUOTED = re.compile(r'"[^"]*"(?:([\t,;| ])"[^"]*")*\r?\n?$')
_QUOTED = re.compile('"[^"]*"')
_BLANKS = re.compile(r'"[^"]*"|[ \t]+')
# Of files in which quotes are plain characters unless lines show otherwise.
_DOUBLED_QUOTES = {
    separator: re.compile(rf'(?:^|[{separator}])"[^{separator}]*""[^{separator}]*"(?:[{separator}]|\r?\n?$)')
    for separator in "\t|"
}


@dataclasses.dataclass(frozen=True)
class Dialect:
    r"""How a file separates and quotes its values.

    Attributes:
      delimiter: The character between values, or "::".
      quoted: Whether values may be in quotes; else quotes are plain characters.
      escaped: Whether a backslash escapes the next character, and `\N` is a missing value.
      blank_after: Whether a blank follows each delimiter.
      hint: Whether the first line is Excel's `sep=;`.
      blanks: Whether any number of blanks and TABs is one delimiter, as in columns that are aligned; none are around.
      row_names: Whether rows begin with a name that the first line has no column for, as R writes them.
    """

    delimiter: str
    quoted: bool = True
    escaped: bool = False
    blank_after: bool = False
    hint: bool = False
    blanks: bool = False
    row_names: bool = False

    def records(self, lines) -> csv.reader:
        """The records of lines, lists of values."""
        # No generators, which would end with the first line that cannot be decoded.
        if self.escaped:
            lines = map(functools.partial(_NULL.sub, ""), lines)
        if len(self.delimiter) > 1:
            lines = map(lambda line: line.replace(self.delimiter, _ONE_FOR_SEVERAL), lines)
        if self.blanks:
            lines = map(_with_one_delimiter, lines)
        return csv.reader(
            lines,
            strict=True,
            delimiter=self.delimiter if len(self.delimiter) == 1 and not self.blanks else _ONE_FOR_SEVERAL,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            escapechar="\\" if self.escaped else None,
            skipinitialspace=self.blank_after,
        )


def _with_one_delimiter(line: str) -> str:
    """A line with one character for all blanks between values."""
    body = line.rstrip("\r\n")
    found = _BLANKS.sub(lambda part: part[0] if part[0][0] == '"' else _ONE_FOR_SEVERAL, body.strip(" \t"))
    return found + line[len(body) :]


def dialect_of(path: str, usual: str, delimiter: str | None = None, encoding: str | None = None) -> Dialect:
    """Recognizes the dialect of a file by its first lines.

    It is the one that most of them have equally many values in; of several the one whose values have the fewest quotes
    beside another delimiter, as where decimal commas are in all lines, or the first, where the usual delimiter comes
    first. In files with TABs quotes are plain characters, as the format (IANA) has it, unless lines show otherwise;
    so they are between |, where texts begin with them as in LJSpeech.
    Blanks separate values of all lines, in quotes as R writes them, or numbers and codes, as UCI's files have them.

    Args:
      path: The file.
      usual: The delimiter of files with such a name.
      delimiter: The delimiter if it is known.
      encoding: See `TextLines`.
    """
    return _dialect(*_head(path, encoding), usual, delimiter)


def _dialect(head, whole, usual, delimiter=None) -> Dialect:
    hint = _EXCEL_HINT.match(head[0]) if head else None
    head = head[1:] if hint else head
    known = delimiter or (hint and hint[1])
    quoted = _ALL_QUOTED.match(head[0]) if head else None
    likely = dict.fromkeys([usual, *(s for s in SEPARATORS if s != " " or quoted and quoted[1] == " ")])
    found = [_dialects(separator, head) for separator in ([known] if known else likely)]
    found = [max(dialects, key=lambda dialect: _share(dialect, head, whole)) for dialects in found]
    shares = {d: _share(d, head, whole) for d in found}
    best = max(found, key=lambda d: (shares[d], -_stray_quotes(d, head), shares[d] > 0 and d.delimiter == "::"))
    if not known and (not shares[best] or best.delimiter == "\t") and _has_columns_of_blanks(best, head, whole):
        best = _ALIGNED
    return dataclasses.replace(best, hint=bool(hint), row_names=_has_row_names(best, head))


def is_separated(path: str, encoding: str | None = None) -> bool:
    """Whether the first lines of a file are rows of a table: all have as many values, and commas make three or more.

    A text may well have a comma a line. Lines with blank ones between are no rows, as those of CoNLL files.
    """
    try:
        head, whole = _head(path, encoding)
    except (OSError, UserError):
        return False
    dialect = _dialect(head, whole, ",")
    rows = [line for line in head[dialect.hint :] if line.strip()]
    if len(rows) < _FEWEST_ROWS or not all(line.strip() for line in head[: len(rows)]):
        return False
    if _share(dialect, rows, whole) < 1:
        return False
    return dialect.delimiter != "," or len(next(dialect.records(rows))) >= _FEWEST_BETWEEN_COMMAS


def _head(path, encoding) -> tuple[list[str], bool]:
    """The first lines but those that cannot be decoded, and whether that is the whole file."""
    with TextLines(path, encoding) as file:
        lines, head = (line for _, line in file.numbered() if isinstance(line, str)), []
        while len(head) < _HEAD_LINES and sum(map(len, head)) < _HEAD_CHARACTERS and (line := next(lines, "")):
            head.append(line)
        return head, next(lines, None) is None


_ALIGNED = Dialect(" ", blanks=True)
_MOST_PARTS_OF_A_TIME = 6


def _has_columns_of_blanks(other: Dialect, head: Sequence[str], whole: bool) -> bool:
    """Whether blanks make as many values of all lines, and `other` does not, or has a value that is many of these."""
    if _share(_ALIGNED, head, whole) < 1:
        return False
    rows = [row for row in list(_ALIGNED.records(head))[1:] if row]
    if not rows or not all(map(_are_codes, rows)):
        return False
    widest = [max(len(value.split()) for value in row) for row in other.records(head) if row]
    return _share(other, head, whole) < 1 or min(widest) > _MOST_PARTS_OF_A_TIME


def _are_codes(row: Sequence[str]) -> bool:
    """Whether there are three or more values, and half of them have a digit or are missing."""
    digits = sum(values.is_missing_number(value) or any(map(str.isdigit, value)) for value in row)
    return len(row) > 2 and 2 * digits >= len(row)


def _dialects(delimiter: str, head: Sequence[str]) -> list[Dialect]:
    if delimiter == " " and not (head and _ALL_QUOTED.match(head[0])):
        return [_ALIGNED]
    names = head[0].split(delimiter)[1:] if head else []
    quoted = Dialect(delimiter, blank_after=delimiter != " " and bool(names) and all(n.startswith(" ") for n in names))
    plain = dataclasses.replace(quoted, quoted=False)
    order = [quoted]
    if delimiter in _DOUBLED_QUOTES:
        order = [quoted, plain] if _shows_quotes(delimiter, head) else [plain, quoted]
    escaped = [dataclasses.replace(dialect, escaped=True) for dialect in order]
    return [*escaped, *order] if any(map(_NULL.search, head)) else [*order, *escaped]


def _shows_quotes(delimiter: str, head: Sequence[str]) -> bool:
    """Whether lines show that quotes are around values, and none of them.

    That is where they are doubled within; or around all names; or around all values but numbers; or, as in texts of
    Excel, around all values with commas, and no others.
    """
    if head and (_ALL_QUOTED.match(head[0]) or any(map(_DOUBLED_QUOTES[delimiter].search, head))):
        return True
    found = [value for line in head[1:] for value in line.rstrip("\r\n").split(delimiter)]
    quoted = [value for value in found if _QUOTED.fullmatch(value)]
    others = [value for value in found if value and not _QUOTED.fullmatch(value)]
    for_commas = all("," in value for value in quoted) and not any("," in value for value in others)
    return bool(quoted) and (for_commas or all(map(values.is_number, others)))


def _share(dialect: Dialect, head: Sequence[str], whole: bool) -> float:
    """Which share of the records has the most frequent number of values; 0 if that is one, or the first has one."""
    reader, widths, broken = dialect.records(head), [], 0
    while True:
        try:
            widths.append(len(next(reader)))
        except StopIteration:
            break
        except csv.Error:
            # The last record of a beginning may well be cut.
            broken += whole or reader.line_num < len(head)
    counts = collections.Counter(filter(None, widths))
    if not counts or widths[0] < 2:
        return 0.0
    return max((number for width, number in counts.items() if width > 1)) / (counts.total() + broken)


def _stray_quotes(dialect: Dialect, head: Sequence[str]) -> int:
    """How many values of the first lines would begin or end in quotes for another separator."""
    found = 0
    with contextlib.suppress(csv.Error):
        for record in dialect.records(head):
            found += sum(_STRAY_QUOTE.search(value) is not None for value in record)
    return found


def _has_row_names(dialect: Dialect, head: Sequence[str]) -> bool:
    """Whether all lines are quoted, and all but the first have one value more, each another one at their beginning."""
    if len(head) < 2 or not all(line.startswith('"') for line in head):
        return False
    try:
        names, *rows = dialect.records(head)
    except csv.Error:
        return False
    return all(len(row) == len(names) + 1 for row in rows) and len({row[0] for row in rows}) == len(rows)
