"""Times in the rows of files: whether each client's records are in their order, and sorting by them."""

from __future__ import annotations

import collections
import datetime
import functools
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Callable

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets import periods
from tff_tx.datasets.readers import values
from tff_tx.datasets.readers.columns import words_of_name

_NAMES = ("time", "timestamp", "datetime", "date", "ts", "ds")
# Smaller numbers may as well be hours of a day, that begin anew: 1970-04-26 in seconds, or the year 1000 as 10000101.
_LEAST_NUMBER = 10_000_000
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?!\d)|(19|20)\d\d-W[0-5]\d(-[1-7])?$")
# As Google's forms and Apple's exports have it after a time.
_ZONE = re.compile(r" (?:GMT|UTC|(?=[+-]\d\d:?\d\d$))(?:([+-]\d{1,2})(?::?(\d\d))?)?$")
# Times with more different steps are events, which have a step each.
_MOST_STEPS = 1000
_EPOCH = datetime.datetime(1970, 1, 1)
_PATTERNS = tuple(
    f"{date}{clock}"
    for date in (
        *("%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y"),
        *("%y/%m/%d", "%m/%d/%y", "%d/%m/%y"),  # with points or dashes they are as often versions and codes
        *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y"),
    )
    for clock in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
)
_OF_ONE_DIGIT = re.compile(r"(?<![\d.])\d(?!\d)")


def _seconds(time: datetime.date) -> float:
    if not isinstance(time, datetime.datetime):
        time = datetime.datetime(time.year, time.month, time.day)
    return time.timestamp() if time.tzinfo else (time - _EPOCH).total_seconds()


def _iso(value) -> float:
    if isinstance(value, datetime.date):
        return _seconds(value)
    text, offset = _without_zone(_OF_ONE_DIGIT.sub(r"0\g<0>", str(value).strip()))
    return _seconds(datetime.datetime.fromisoformat(text)) - offset


def _by_pattern(pattern: str, value) -> float:
    text, offset = _without_zone(str(value).strip())
    return _parsed(pattern, text) - offset


def _without_zone(text: str) -> tuple[str, int]:
    """A time without its zone, and how many seconds that is ahead."""
    if not (zone := _ZONE.search(text)):
        return text, 0
    hours, minutes = int(zone[1] or 0), int(zone[2] or 0)
    return text[: zone.start()], 3600 * hours + 60 * (minutes if hours >= 0 else -minutes)


@functools.lru_cache(4096)
def _parsed(pattern: str, text: str) -> float:
    return _seconds(datetime.datetime.strptime(text, pattern))


def _period(value) -> float:
    return _seconds(periods.first_day(value))


Read = Callable[[Any], float]
_TEXTS: tuple[Read, ...] = (_iso, _period, *(functools.partial(_by_pattern, pattern) for pattern in _PATTERNS))


def _time(read: Read, value) -> float | None:
    """A time by one way of writing it; None if it is not written so."""
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _ways(name: str, value) -> list[Read]:
    """The ways in which a value of a column may be a time."""
    if values.is_number(value):
        is_named = words_of_name(name)[-1:]
        return [values.as_number] if {*is_named} & {*_NAMES} and values.as_number(value) >= _LEAST_NUMBER else []
    is_date = isinstance(value, datetime.date) or _DATE.match(str(value)) or periods.is_named_day(value)
    if not (is_date or periods.is_period(value)):
        return []
    return [read for read in _TEXTS if _time(read, value) is not None]


def _is_repeated(now: float, before: float) -> bool:
    """Whether it is the hour that the end of summer time repeats, in a night to a Sunday."""
    day, clock = divmod(now, 86400)
    return before - now <= 3600 and clock < 4 * 3600 and day % 7 == 3


class Order:
    """Whether the records of each client come in the order of a column of times, whichever that is.

    A column of dates, or one with a usual name and seconds, may be that, but none that has something else as well. They
    are out of order if none of these columns increases, or stays, from record to record of every client, however its
    dates may be read.

    Args:
      shared: Whether clients are columns of a table, which have their times in common: steps are those of one of them.
    """

    def __init__(self, shared: bool = False):
        self._shared, self._counted = shared, None
        self._last: dict[tuple[str, Read], dict] | None = None
        self._steps: dict[tuple[str, Read], collections.Counter] = collections.defaultdict(collections.Counter)
        self._faults: dict[str, tuple | None] = {}
        self._latest: tuple | None = None

    def find(self, clients: Iterable[Hashable], rows: Iterable[tuple[str, Mapping]]) -> tuple | None:
        """(place, column, time, time of the client's record before) of the first that is out of order, if one is.

        Args:
          clients: Whose the rows are.
          rows: The next places and rows of the files.
        """
        for client, (where, row) in zip(clients, rows):
            if self._last is None:
                self._last = {(name, read): {} for name, value in row.items() for read in _ways(name, value)}
                self._faults, self._counted = dict.fromkeys(name for name, _ in self._last), client
            for (name, read), last in list(self._last.items()):
                value = row.get(name)
                if (name, read) not in self._last or values.is_missing_number(value):
                    continue
                now, (before, shown) = _time(read, value), last.get(client, (None, None))
                if now is None:
                    self._lose(name, read, value)
                elif before is not None and now < before and not _is_repeated(now, before):
                    del self._last[name, read]
                    self._latest = self._faults[name] = where, name, value, shown
                else:
                    last[client] = now, value
                    is_counted = before is not None and (not self._shared or client == self._counted)
                    if is_counted and len(steps := self._steps[name, read]) <= _MOST_STEPS:
                        steps[now - before] += 1
            if not self._last:
                return self._latest if self._faults and all(self._faults.values()) else None
        return None

    def notes(self) -> list[str]:
        """That times which are evenly spaced but for a few have gaps, or come again."""
        found = {}
        for (name, read), steps in self._steps.items():
            ((usual, times),), total = steps.most_common(1), steps.total()
            longer = {step: number for step, number in steps.items() if step > 1.5 * usual}
            again = sum(number for step, number in steps.items() if step <= 0)
            is_even = usual > 0 and times * 10 >= total * 9 and len(steps) <= _MOST_STEPS
            if (name, read) in (self._last or ()) and is_even and (longer or again):
                gaps = f"{sum(longer.values()):,} steps longer than the usual {usual:,g} s"
                gaps += f", up to {max(longer, default=0):,g} s"
                parts = [*([gaps] if longer else []), *([f"{again:,} times that come again"] if again else [])]
                found[name] = f"the column {name!r} has {' and '.join(parts)}; records are taken for evenly spaced"
        return list(found.values())

    def _lose(self, name, read, value):
        """Leaves out a way of reading a column; or the column, if the value is no time."""
        del self._last[name, read]
        if not _ways(name, value):
            self._last = {key: last for key, last in self._last.items() if key[0] != name}
            self._faults[name] = None

    def check(self, clients: Iterable[Hashable], rows: Iterable[tuple[str, Mapping]]) -> None:
        """Rejects what is out of order; arguments as of `find`."""
        if fault := self.find(clients, rows):
            where, name, now, before = fault
            raise UserError(
                f"{where}: the column {name!r} has {str(now)!r} after {str(before)!r} of the same client, and records "
                f"must be in the order of time: sort them by it with {setting('data.time_column')}={name}, name in "
                f"{setting('data.client_column')} whose they are, or, if it is no time of records that are in order, "
                f"set {setting('data.time_column')}=none."
            )


def by_time(rows: Sequence[tuple[str, Mapping]], name: str) -> list[tuple[str, Mapping]]:
    """Places and rows in the order of a column of times, those of one time as they were.

    Raises:
      UserError: If a row has no time there, or days and months cannot be told apart.
    """
    found: dict[Read, list[float]] = {read: [] for read in (values.as_number, *_TEXTS)}
    for where, row in rows:
        times = {read: _time(read, row.get(name)) for read in found}
        found = {read: found[read] for read, time in times.items() if time is not None}
        if not found:
            raise UserError(
                f"{where}: the column {name!r} has {str(row.get(name))[:60]!r}, which is no time as those before are; "
                f"correct it, or choose another {setting('data.time_column')}."
            )
        for read, times_by in found.items():
            times_by.append(times[read])
    if _period in found:  # 10.2024 is October, no number between 10 and 11
        found.pop(values.as_number, None)
    orders = {tuple(sorted(range(len(rows)), key=times.__getitem__)) for times in found.values()}
    if len(orders) > 1:
        raise UserError(
            f"{rows[0][0]}: the column {name!r} has {str(rows[0][1][name])!r}, whose first number may be the day or "
            "the month; write times as 2024-12-31."
        )
    return [rows[place] for place in orders.pop()]
