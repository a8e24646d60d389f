"""What the columns of raw data look like; reads no more than their first records."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tff_tx.core.text import listed
from tff_tx.datasets.periods import is_named_day, is_period
from tff_tx.datasets.readers import units, values
from tff_tx.datasets.sources import Source, open_source
from tff_tx.datasets.spec import DataSpec

MOST_ROWS = 10_000
_WIDTH, _NUM_EXAMPLES = 32, 3
# A column with no more different values than these, and fewer than half of its rows, has categories.
_MOST_CLASSES = 100
_NINES = re.compile("-?9+")
_TIME = re.compile(
    r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T]\d{1,2}:\d{2}(:\d\S*)?( ?[AP]M|Z)?"
    r"( ((UTC|GMT)([+-]\d\S*)?|[+-]\d\d:?\d\d))?)?$"
    r"|(19|20)\d\d-W[0-5]\d(-[1-7])?$|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
)
_DECIMALS = re.compile(r"\.00+$")
_SEPARATORS = ("|", ";", ",")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a file.

    Attributes:
      name: Its name.
      kind: "text", "category", "number", "id", "time", "list", "image or recording" or "empty".
      missing: Rows without a value.
      distinct: Different values.
      examples: The first of these, cut.
      labels: Different ones that the rows have in lists, or separated in a text; 0 for what are no sets of labels.
      separator: What stands between them in a text.
      code: A number such as -99 that several rows have and that lies apart from all others.
      unit: Of its numbers, which it stands beside.
      doubt: What is unclear of its numbers; "": nothing.
      infinite: Rows with an infinite number, of a column of numbers.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    examples: tuple[str, ...]
    labels: int = 0
    separator: str | None = None
    code: str | None = None
    unit: str = ""
    doubt: str = ""
    infinite: int = 0


@dataclasses.dataclass(frozen=True)
class Overview:
    """The first records of the training data: number, columns, how many repeat an earlier one, and themselves."""

    num_rows: int
    columns: tuple[Column, ...]
    duplicates: int
    rows: Sequence[Mapping[str, Any]] = dataclasses.field(default=(), repr=False)

    def of_kind(self, *kinds: str) -> list[str]:
        """The names of columns of some kinds."""
        return [column.name for column in self.columns if column.kind in kinds]


def overview(spec: DataSpec, source: Source | None = None) -> Overview | None:
    """Looks at the first `MOST_ROWS` training records as they stand in their files; None for data that are no files.

    Raises:
      UserError: If the data cannot be read.
    """
    if spec.dataset != "file":
        return None
    rows = list(itertools.islice(_rows(source or open_source(spec)), MOST_ROWS))
    names = dict.fromkeys(name for row in rows for name in row)
    prints = [hashlib.sha256(repr(sorted(row.items(), key=lambda pair: pair[0])).encode()).digest() for row in rows]
    columns = tuple(_column(name, [row.get(name) for row in rows]) for name in names)
    return Overview(len(rows), columns, len(rows) - len(set(prints)), rows)


def _rows(source: Source) -> Iterator[Mapping[str, Any]]:
    return (_flat(row) for chunk in source.pools["train"].chunks() for _, row in chunk.rows)


def _flat(row: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A row with what its objects hold by their dotted names, but for pictures and recordings."""
    found = {}
    for name, value in row.items():
        is_nested = isinstance(value, Mapping) and not {"path", "bytes", "array"} & set(value)
        found |= _flat(value, f"{path}{name}.") if is_nested else {f"{path}{name}": value}
    return found


def _column(name: str, found: Sequence) -> Column:
    numbers = [value for value in found if not values.is_missing_number(value)]
    if infinite := [value for value in numbers if values.is_infinite(value)]:
        numbers = [value for value in numbers if not values.is_infinite(value)]
    of = {units.unit(value) for value in numbers}
    has_unit = len(of) == 1 and of != {""}
    numbers = list(map(units.without_unit, numbers)) if has_unit else numbers
    commas = next((str(value) for value in numbers if values.has_comma_of_either_kind(value)), None)
    numbers = [v.replace(",", "") if values.has_comma_of_either_kind(v) else v for v in numbers] if commas else numbers
    is_numeric = bool(numbers) and all(map(values.is_number, numbers))
    there = numbers if is_numeric else [value for value in found if not values.is_empty(value)]
    shown = list(dict.fromkeys(_shown(value) for value in there))
    kind = _kind(there, len(shown))
    examples = tuple(_cut(text, kind == "image or recording") for text in shown[:_NUM_EXAMPLES])
    labels, separator = _separated(there, len(shown)) if kind in ("category", "text", "id") else (0, None)
    if kind == "list":
        labels = _num_labels([values.parsed(value) for value in there])
    kind = "category" if separator else kind
    code = _code(there) if kind == "number" else None
    unit = of.pop() if has_unit and kind == "number" else ""
    infinite = infinite if is_numeric else []
    missing, doubt = len(found) - len(there) - len(infinite), _doubt(there, kind, commas, infinite)
    return Column(name, kind, missing, len(shown), examples, labels, separator, code, unit, doubt, len(infinite))


def _doubt(there: Sequence, kind: str, commas: str | None, infinite: Sequence) -> str:
    """Why a column may have numbers that are not read as such."""
    if infinite:
        return (
            f"has {infinite[0]} in {len(infinite):,} rows, which is no finite number: leave such cells empty, or skip "
            "their rows"
        )
    if kind == "number" and commas is not None:
        return f"has numbers such as {commas}, whose comma may group thousands or be a decimal one: write them without"
    others = {str(value) for value in there if not values.is_number(value)}
    numbers = {value for value in map(str, there) if value not in others}
    if kind not in ("category", "id", "text") or not 0 < len(others) <= 3 or len(numbers) < 10:
        return ""
    return f"has numbers but for {listed(sorted(map(repr, others)))}: leave these empty if they say that there is none"


def _code(numbers: Sequence) -> str | None:
    """A number of nines by which statistics programs say that there is none."""
    counts = collections.Counter(values.as_number(value) for value in numbers)
    for code in (number for number, times in counts.items() if times > 1 and _NINES.fullmatch(f"{number:g}")):
        others = [number for number in counts if number != code]
        low, high = min(others, default=0), max(others, default=0)
        if len(others) > 2 and (code < min(0, low) if code < 0 else code > high + (high - low)) and low >= 0:
            return f"{code:g}"
    return None


def _num_labels(rows: Sequence[Sequence]) -> int:
    """The number of different labels; 0 if rows are no sets of a few labels that many of them have."""
    if not all(isinstance(part, (str, int)) for row in rows for part in row) or any(
        len(set(row)) < len(row) for row in rows
    ):
        return 0
    labels = {part for row in rows for part in row}
    return len(labels) if 2 <= len(labels) <= min(_MOST_CLASSES, len(rows) // 2) else 0


def _separated(there: Sequence, distinct: int) -> tuple[int, str | None]:
    """The number of labels that texts consist of in several combinations, and what separates them."""
    for separator in _SEPARATORS:
        rows = [[part.strip() for part in str(value).split(separator)] for value in there]
        several = sum(len(row) > 1 for row in rows) * 10 >= len(rows)
        if several and all(map(all, rows)) and 0 < (labels := _num_labels(rows)) < distinct:
            return labels, separator
    return 0, None


def _cut(text: str, is_path: bool) -> str:
    """What fits of an example; of a path its end, which says what it is."""
    if len(text) <= _WIDTH:
        return text
    return f"...{text[3 - _WIDTH :]}" if is_path else f"{text[: _WIDTH - 3]}..."


def _shown(value) -> str:
    if isinstance(value, dict) and ("path" in value or "bytes" in value):
        return str(value.get("path") or f"{len(value['bytes'])} bytes")
    return " ".join(str(value).split()) if not isinstance(value, bytes) else f"{len(value)} bytes"


def _kind(there: Sequence, distinct: int) -> str:
    if not there:
        return "empty"
    if all(map(values.is_list, there)):
        return "list"
    if not all(map(values.is_scalar, there)):
        return "image or recording"
    few = distinct <= min(_MOST_CLASSES, max(2, len(there) // 2))
    if all(map(values.is_number, there)):
        whole = all(values.as_number(value).is_integer() for value in there)
        if distinct == len(there) > 2 and whole and _counts(there):
            return "id"
        measured = any(_DECIMALS.search(str(value)) for value in there)  # codes have no 18.000
        return "category" if few and whole and distinct <= 20 and not measured else "number"
    if all(map(is_time, there)):
        return "time"
    words = sum(len(str(value).split()) for value in there) / len(there)
    return "category" if few and words < 4 else "text" if words >= 2 else "id"


def is_time(value) -> bool:
    """Whether a value is written as a time, a day, or a month or a week of a year."""
    return _TIME.match(str(value)) is not None or is_period(value) or is_named_day(value)


def _counts(numbers: Sequence) -> bool:
    """Whether numbers are those of the rows, as an index that was written with a table."""
    first = values.as_number(numbers[0])
    return all(values.as_number(value) == first + n for n, value in enumerate(numbers))
