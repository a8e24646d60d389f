"""Numbers with a unit, such as 99 kg and EUR 1,200, of which a column has one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tff_tx.core.errors import UserError
from tff_tx.datasets.readers import values

_CURRENCIES = "EUR|USD|GBP|CHF|JPY|CNY|RMB|INR|SEK|NOK|DKK|PLN|CZK|HUF|CAD|AUD|NZD|BRL|MXN|ZAR|TRY|KRW|Rs"
_WORDS = (
    r"[kcmµ]?m|mi|ft|in|km/h|mph|m/s|m2|m²|km2|km²|sqm|sqft|sq ft|[kmµ]?g|lbs?|oz|[mcd]?l|L|mL|gal|[nmµ]?s|secs?"
    r"|min|mins|hrs?|h|d|yrs?|mos?|seconds?|minutes?|hours?|days?|weeks?|months?|years?|°C|°F|°|[kKMG]?Hz|[kKMGT]B"
    r"|[kM]?Wh?|m?V|mA|m?mol/[lL]|m?g/d?[lL]|mmHg|bpm|hPa|[kM]?Pa|kcal|k?cal|kJ|pct|percent|cc|CC|bhp|hp|kmpl"
)
_NUMBER = r"[+-]?\d[\d.,'’\s]*?"
_UNIT = re.compile(
    rf"\s*(?:(?P<before>{_CURRENCIES})\s*)?(?P<number>{_NUMBER})\s*(?P<after>{_CURRENCIES}|{_WORDS})?\s*"
)
_MOST_CHARACTERS = 40
_SYMBOL = re.compile(r"[$€£¥%]")


def unit(value) -> str:
    """The unit of a value, "" without one; that of several, as in 2 years, as of one."""
    found = _matched(value)
    name = found and (found["before"] or found["after"])
    if name:
        return name.removesuffix("s") if len(name) > 3 or name in ("lbs", "yrs", "hrs", "mos") else name
    symbol = None if _is_plain(value) else _SYMBOL.search(value)
    return symbol[0] if symbol and values.is_number(value) else ""


def without_unit(value):
    """A number without its unit, as a text; any other value as it is."""
    found = _matched(value)
    return found["number"] if found and bool(found["before"]) != bool(found["after"]) else value


def is_quantity(value) -> bool:
    """Whether a value is a number, maybe with a unit."""
    return values.is_number(without_unit(value))


def _is_plain(value) -> bool:
    """Whether a value is no text, or as most numbers begins and ends as one without a unit."""
    return not isinstance(value, str) or value[-1:].isdecimal() and value[:1] in "+-.0123456789"


def _matched(value):
    return None if _is_plain(value) or len(value) > _MOST_CHARACTERS else _UNIT.fullmatch(value)


def require_one(places: Sequence[str], column: Sequence, name: str) -> None:
    """Rejects a column of numbers in several units, or of which some have one that is no currency or percent sign."""
    first: dict[str, int] = {}
    if all(map(_is_plain, column)):
        return
    for place, value in enumerate(column):
        if isinstance(value, str) and not values.is_missing_number(value):
            first.setdefault(unit(value), place)
    units = {name for name in first if name}
    if len(units) > 1 or "" in first and any(not _SYMBOL.match(name) for name in units):
        before, after = list(first.values())[:2]
        one, other = column[before], column[after]
        raise UserError(
            f"{places[after]}: the column {name!r} has {other!r} and {one!r}, which are no numbers "
            "of one unit: write all of them in one, or without."
        )
