"""Whether the rows of a table are series, or of which series they are, by its first rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tff_tx.datasets.overview import Overview, is_time
from tff_tx.datasets.readers import values
from tff_tx.datasets.readers.columns import words_of_name

_MOST_KEYS = 8
_FEWEST_STEPS, _ROWS_TO_TELL = 10, 1000
_YEAR, _NUMBERED = re.compile(r"(19|20)\d\d"), re.compile(r"(.*?)(\d+)")
_STEPS = ("d", "day", "w", "week", "month", "quarter", "year", "hour", "t", "time", "step")


def steps_in_columns(found: Overview) -> list[str]:
    """The columns that have a step each of the series that each row is; empty if rows are none.

    They are called by dates or years, or by numbers that follow one another, be it of days (d_1, d_2) or of anything
    (V2, V3) of which rows have different numbers, and none after. Where a column has times, rows are steps.
    """
    if found.of_kind("time"):
        return []
    numeric = [c.name for c in found.columns if c.kind == "empty" or all(map(values.is_number, c.examples))]
    times = [name for name in numeric if is_time(name) or _YEAR.fullmatch(name)]
    if len(times) >= _FEWEST_STEPS:
        return times
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name in numeric:
        if end := _NUMBERED.fullmatch(name):
            numbered.setdefault(end[1], []).append((int(end[2]), name))
    for prefix, pairs in numbered.items():
        numbers, names = zip(*pairs)
        # What stands behind the steps may be a label.
        are_last = names[-1] == next(c.name for c in found.columns[::-1] if c.kind != "empty" or c.name in names)
        follow = (
            are_last and len(names) >= _FEWEST_STEPS and [*numbers] == [*range(numbers[0], numbers[0] + len(names))]
        )
        if follow and ({*words_of_name(prefix)} & {*_STEPS} or _end_apart(found, names)):
            return list(names)
    return []


def _end_apart(found: Overview, names: Sequence[str]) -> bool:
    """Whether rows have values in the first of some columns alone, in several numbers of them."""
    there = [[not values.is_missing_number(row.get(name)) for name in names] for row in found.rows[:_ROWS_TO_TELL]]
    return all(row == sorted(row, reverse=True) for row in there) and len({*map(sum, there)}) > 2


def names_of_series(found: Overview, clients: Sequence[str]) -> tuple[str, ...]:
    """The columns that say of which series a record is, three at most: each has one record at about every time.

    The first of `clients`, if there are any, is one of several.
    """

    def is_complete(names):
        keys = [tuple(row.get(name) for name in names) for row in found.rows]
        for time in (c for c in found.columns if c.kind == "time" and c.distinct > 1):
            there = len({(key, row.get(time.name)) for key, row in zip(keys, found.rows)})
            numbers = (len({*keys}) * time.distinct, there)
            if all(abs(number - found.num_rows) * 10 <= found.num_rows for number in numbers):
                return True
        return False

    several = [c.name for c in found.columns if c.kind == "category" and c.distinct > 1]
    if alone := next(filter(is_complete, ((name,) for name in clients[:1] or several)), ()):
        return () if clients else alone
    keys = found.of_kind("category", "id", "number")[:_MOST_KEYS]
    several_of = (names for number in (2, 3) for names in itertools.combinations(keys, number))
    return next((names for names in several_of if {*clients[:1]} <= {*names} and is_complete(names)), ())
