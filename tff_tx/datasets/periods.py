"""Months and quarters as files write them: 2024-03, 03/2024, Mar 2024, Mar-24, 2024M03, 2024-Q1, Q1 2024.

Also days by the names of their months: Mar 1, 2024, and 1 March 2024, and 01-Mar-24.
"""

from __future__ import annotations

import datetime
import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = "january|february|march|april|may|june|july|august|september|sept|october|november|december"
_YEAR, _NUMBER = r"(?P<year>(?:19|20)\d\d)", r"(?P<month>0?[1-9]|1[0-2])"
_NAME, _QUARTER = rf"(?P<name>{_NAMES}|{'|'.join(_MONTHS)})\.?", r"[Qq](?P<quarter>[1-4])"
_WAYS = tuple(
    re.compile(way, re.IGNORECASE)
    for way in (
        rf"{_YEAR}[-/]{_NUMBER}",
        rf"{_NUMBER}[-/.]{_YEAR}",
        rf"{_YEAR}M(?P<month>0[1-9]|1[0-2])",
        rf"{_NAME}[- ,]+{_YEAR}",
        rf"{_YEAR}[- ]?{_NAME}",
        rf"{_NAME}-(?P<short>\d\d)",  # with a blank it is as often a day
        rf"{_YEAR}[-/ ]?{_QUARTER}",
        rf"{_QUARTER}[-/ ]?{_YEAR}",
    )
)
_MONTH = rf"({_NAMES}|{'|'.join(_MONTHS)})"
_NAMED_DAY = re.compile(
    rf"(\d\d?-{_MONTH}-(\d\d)?\d\d|\d\d? {_MONTH} \d{{4}}|{_MONTH} \d\d?, \d{{4}})( \d\d?:\d\d\S*( [AP]M)?)?",
    re.IGNORECASE,
)
_LONGEST = 16
# Of years of two digits, as Python's %y has it.
_CENTURY = 69


def first_day(value: object) -> datetime.date:
    """The first day of a month or quarter.

    Raises:
      ValueError: If it is none.
    """
    text = value.strip() if isinstance(value, str) and len(value) <= _LONGEST else ""
    found = next((match for way in _WAYS if (match := way.fullmatch(text))), None)
    if found is None:
        raise ValueError
    part = {"month": None, "name": None, "quarter": None, **found.groupdict()}
    if "short" in part:
        year = int(part["short"]) + (1900 if int(part["short"]) >= _CENTURY else 2000)
    else:
        year = int(part["year"])
    if part["quarter"]:
        return datetime.date(year, 3 * int(part["quarter"]) - 2, 1)
    return datetime.date(year, int(part["month"] or 1 + _MONTHS.index(part["name"][:3].lower())), 1)


def is_named_day(value: object) -> bool:
    """Whether a value is a day with the name of its month, and perhaps a time of the day."""
    return isinstance(value, str) and _NAMED_DAY.fullmatch(value.strip()) is not None


def is_period(value: object) -> bool:
    """Whether a value is a month or a quarter."""
    try:
        return bool(first_day(value))
    except ValueError:
        return False
