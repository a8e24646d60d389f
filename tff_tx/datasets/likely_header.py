"""Whether the first line of a table names its columns, or is a record, by its first rows."""

from __future__ import annotations

from collections.abc import Sequence

from tff_tx.datasets.overview import Column, Overview, is_time
from tff_tx.datasets.readers import values

_FEW_CATEGORIES = 10
_FEWEST_IN_ORDER = 3


def is_record(found: Overview) -> bool:
    """Whether all names are such values as their columns have, and one is evidently so.

    That is a number of numbers, a time of times, or a category that rows have. Numbers that grow from column to column
    are names: of years, of steps of time, of places in a picture.
    """
    numbers = [values.as_number(column.name) for column in found.columns if values.is_number(column.name)]
    grow = all(before < after for before, after in zip(numbers, numbers[1:]))
    if len(numbers) >= _FEWEST_IN_ORDER and grow:
        return False
    alike = [_is_alike(column, found) for column in found.columns]
    return False not in alike and True in alike


def are_values(names: Sequence[str], found: Overview) -> bool:
    """Whether all names that a first line has twice are numbers, or values of other rows in their columns.

    Args:
      names: The first line.
      found: The rows, of which that is the first.
    """
    twice = [place for place, name in enumerate(names) if names.count(name) > 1 and not values.is_number(name)]
    below = [[*map(str, row.values())] for row in found.rows[1:]]
    return all(any(row[place].strip() == names[place] for row in below) for place in twice)


def evident_value(found: Overview) -> str | None:
    """The name of a column that is one of its values, or a number; None if there is none."""
    return next((c.name for c in found.columns if values.is_number(c.name) or _occurs(c, found)), None)


def _is_alike(column: Column, found: Overview) -> bool | None:
    """Whether a name is such a value as the column has; None if that cannot be told."""
    there = [row[column.name] for row in found.rows if not values.is_empty(row.get(column.name))]
    if column.name.startswith("column ") or not there:
        return None  # it has no name, or no value
    if all(map(values.is_number, there)):
        return values.is_number(column.name)
    if column.kind == "time":
        return is_time(column.name)
    if column.kind == "text" and len(column.name.split()) < 2:
        return False
    return _occurs(column, found) or (False if column.distinct <= _FEW_CATEGORIES else None)


def _occurs(column: Column, found: Overview) -> bool:
    return any(str(row.get(column.name)).strip() == column.name for row in found.rows)
