"""One party of an intersection: it masks and shuffles, and learns which of its own rows are common to all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_tx.core.errors import UserError
from tff_tx.federation.alignment.identifiers import POINT_BYTES
from tff_tx.federation.alignment.order import RowOrder

VERSION = 1
_MORE_THAN_OWN = 10


class Member:
    """A party as a state machine, which answers one message after another.

    A set of identifiers passes all parties. Each masks it by its secret and shuffles it by a permutation of its own, so
    that nobody can link what comes out to what went in. The positions of common identifiers go back the same way, each
    party undoing its permutation, until the owner of the set has those of its rows. So who coordinates learns how many
    identifiers the parties have, and how many each group of them has in common, but of its own rows no more than the
    others do of theirs: which are common to all.

    Attributes:
      order: The common order of rows, once it is known.

    Args:
      name: The party's name.
      points: uint8 [rows, 32], hashes of its identifiers, see `Identifiers`.
      masks: An `EllipticCurve` or a `KeyedHash`.
      most_identifiers: A larger set of another party is rejected, as it may be a list of guesses; None: ten times the
        party's own.
    """

    def __init__(self, name: str, points: np.ndarray, masks: Any, most_identifiers: int | None = None):
        self.name, self.order = name, None
        self._points, self._masks = points, masks
        self._most = most_identifiers or _MORE_THAN_OWN * len(points)
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence()))
        self._sets: dict[str, np.ndarray] = {}
        self._places: dict[str, np.ndarray] = {}
        self._arriving: dict[str, list] = {}

    def answer(self, phase: str, said: Mapping[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Answers a message.

        Args:
          phase: "size", "put", "take", "positions" or "order".
          said: What it is about; `owner` is the party whose set it is.
          data: Points, or positions as little-endian uint32.

        Returns:
          What is said, and points or positions.

        Raises:
          UserError: If the message is not one that this party can be sent now.
        """
        handlers = {"size": self._size, "put": self._put, "take": self._take, "positions": self._back}
        if phase == "order":
            return self._finish(said)
        if phase not in handlers:
            raise UserError(f"there is no step {phase!r} of an intersection.")
        return handlers[phase](str(said.get("owner", "")), said, data)

    def _size(self, owner, said, data):
        if said.get("version") != VERSION:
            raise UserError(
                f"the other party's intersection is of version {said.get('version')}, this one's of {VERSION}: use the "
                "same release of tff_tx."
            )
        if said.get("match") != self._masks.name:
            raise UserError(f"the other party matches by {said.get('match')}, this one by {self._masks.name}.")
        return {"rows": len(self._points)}, b""

    def _put(self, owner, said, data):
        """Takes a part of a set in: its own needs no data."""
        if owner == self.name:
            self._mix(owner, self._masks.mask(self._points))
            return {}, b""
        parts = self._arriving.setdefault(owner, [])
        parts.append(self._masks.mask(_points_of(data)))
        if (number := sum(map(len, parts))) > self._most:
            raise UserError(
                f"{owner} has more than {self._most} identifiers, which may be guesses: raise the limit if it is due."
            )
        if said.get("last"):
            self._mix(owner, np.concatenate(self._arriving.pop(owner)))
        return {"rows": number}, b""

    def _mix(self, owner, points):
        if owner in self._sets:
            raise UserError(f"the set of {owner} has passed already: it passes once.")
        places = self._random.permutation(len(points))
        self._places[owner], self._sets[owner] = places, points[places]

    def _take(self, owner, said, data):
        found, start, count = self._known(owner, self._sets), int(said["start"]), int(said["count"])
        return {}, found[start : start + count].tobytes()

    def _back(self, owner, said, data):
        places, positions = self._known(owner, self._places), np.frombuffer(data, "<u4")
        if len(np.unique(positions)) < len(positions) or (len(positions) and positions.max() >= len(places)):
            raise UserError("a party asked for positions that a set does not have, or for one twice.")
        found = places[positions].astype("<u4")
        if owner != self.name:
            return {}, found.tobytes()
        self.order = found
        return {"rows": len(found)}, b""

    def _finish(self, said):
        if self.order is None:
            raise UserError("the order is not known yet.")
        self.order = RowOrder(str(said["alignment"]), tuple(map(int, self.order)))
        return {"rows": len(self.order.rows)}, b""

    def _known(self, owner, sets):
        if owner not in sets:
            raise UserError(f"there is no set of {owner} here yet.")
        return sets[owner]


def _points_of(data: bytes) -> np.ndarray:
    if len(data) % POINT_BYTES:
        raise UserError("a party sent what are no points.")
    return np.frombuffer(data, np.uint8).reshape(-1, POINT_BYTES)
