"""Identifiers: normalized, hashed as they are read, and each but once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Callable

import numpy as np

from tff_tx.core.errors import UserError

POINT_BYTES = 32
_MOST_SHOWN = 5
_WHOLE = re.compile(r"\s*([+-]?\d+)\.0+\s*")


def _plain(text):
    """NFKC, of whole numbers without a point, as pandas writes them where a value of the column is missing: "7.0"."""
    text = unicodedata.normalize("NFKC", text)
    return found[1] if (found := _WHOLE.fullmatch(text)) else text


_RULES = {
    "exact": lambda text: text,
    "text": lambda text: " ".join(_plain(text).casefold().split()),
    "digits": lambda text: re.sub(r"\D", "", _plain(text)),
}


def normalized(values: Sequence[str], rule: str) -> bytes:
    """The bytes that identify a row, of the values of its identifying columns.

    Args:
      values: One text a column.
      rule: "text": NFKC, "7" for "7.0", case folding, single blanks between words and none around; "digits": the digits
        of that; "exact": nothing.

    Raises:
      UserError: If nothing is left of a value.
    """
    found = [_RULES[rule](value) for value in values]
    if not all(found):
        raise UserError(f"the identifier {' '.join(values)!r} is empty; fill it in or remove the row.")
    # The lengths keep ("ab", "c") and ("a", "bc") apart.
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in found)


class Identifiers:
    """The hashed identifiers of a table.

    Attributes:
      points: uint8 [rows, 32], what `hash_fn` made of each row's identifier.

    Args:
      rows: Pairs of a row's place, for messages, and the values of its identifying columns; read once.
      hash_fn: From the bytes of `normalized` to 32 bytes.
      rule: As of `normalized`.

    Raises:
      UserError: If there are no rows, or rows without an identifier or with that of another; it names their places.
    """

    def __init__(self, rows: Iterable[tuple[str, Sequence[str]]], hash_fn: Callable[[bytes], bytes], rule: str):
        blocks, places = bytearray(), []
        for place, values in rows:
            try:
                blocks += hash_fn(normalized(values, rule))
            except UserError as error:
                raise error.within(place) from None
            places.append(place)
        self.points = np.frombuffer(bytes(blocks), np.uint8).reshape(-1, POINT_BYTES)
        if not places:
            raise UserError("there are no identifiers: the table is empty.")
        self._require_distinct(places)

    def _require_distinct(self, places):
        _, first, inverse = np.unique(as_keys(self.points), return_index=True, return_inverse=True)
        if len(first) == len(places):
            return
        repeated = np.flatnonzero(first[inverse] != np.arange(len(places)))
        shown = "; ".join(f"{places[row]} is {places[first[inverse[row]]]} again" for row in repeated[:_MOST_SHOWN])
        raise UserError(
            f"{len(repeated)} rows have the identifier of another, once normalized ({shown}): keep one row of each."
        )


def as_keys(points: np.ndarray) -> np.ndarray:
    """Points [n, 32] as n values that NumPy sorts and compares."""
    return np.ascontiguousarray(points).view(f"V{POINT_BYTES}").ravel()
