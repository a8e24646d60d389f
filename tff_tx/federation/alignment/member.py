"""One party of an intersection: it masks and shuffles, and learns which of its own rows are common to all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_tx.core.errors import UserError
from tff_tx.federation.alignment.identifiers import POINT_BYTES
from tff_tx.federation.alignment.order import RowOrder
from tff_tx.federation.alignment.state import State

VERSION = 3
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
      state: What it retains when it is interrupted; None: nothing.
      most_identifiers: More of the others together, under whatever names, are rejected, as they may be guesses; None:
        ten times the party's own.
    """

    def __init__(
        self,
        name: str,
        points: np.ndarray,
        masks: Any,
        most_identifiers: int | None = None,
        state: State | None = None,
    ):
        self.name, self.order = name, None
        self._points, self._masks = points, masks
        self._most = most_identifiers or _MORE_THAN_OWN * len(points)
        self._state, self._secret, self._identifier = state or State(), b"", None
        self._sets: dict[str, np.ndarray] = {}
        self._places: dict[str, np.ndarray] = {}
        self._arriving: dict[str, bytearray] = {}

    def answer(self, phase: str, said: Mapping[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Answers a message.

        Args:
          phase: "size", "put", "take", "positions" or "order".
          said: What it is about; `owner` is the party whose set it is, `start` and `count` are points.
          data: Points, or positions as little-endian uint32.

        Returns:
          What is said, and points or positions.

        Raises:
          UserError: If the message is not one that this party can be sent now.
        """
        handlers = {"size": self._size, "put": self._put, "take": self._take, "positions": self._back}
        if phase not in (*handlers, "order"):
            raise UserError(f"there is no step {phase!r} of an intersection.")
        if phase != "size" and self._identifier is None:
            raise UserError("it was started anew in the middle of the intersection: give all other commands again.")
        if phase == "order":
            return self._finish(said)
        return handlers[phase](str(said.get("owner", "")), said, data)

    def _size(self, owner, said, data):
        if said.get("version") != VERSION:
            raise UserError(
                f"the other party's intersection is of version {said.get('version')}, this one's of {VERSION}: use the "
                "same release of tff_tx."
            )
        if said.get("match") != self._masks.name:
            raise UserError(f"the other party matches by {said.get('match')}, this one by {self._masks.name}.")
        identifier = str(said.get("identifier", ""))
        if self._identifier is None:
            self._identifier = identifier
            self._secret, found = self._state.begin(identifier)
            self._masks.use(self._secret)
            self._arriving = {of: masked for of, (masked, _) in found.items()}
            for of, (_, is_complete) in found.items():
                if is_complete:
                    self._mix(of)
        elif identifier != self._identifier:
            # Or each would be a fresh list of guesses.
            raise UserError("it takes part in another intersection already: start it again for a new one.")
        masked = {of: len(points) // POINT_BYTES for of, points in self._arriving.items()}
        masked |= {of: len(points) for of, points in self._sets.items()}
        begun = hashlib.sha256(b"begun" + self._secret).hexdigest()
        return {"rows": len(self._points), "masked": masked, "begun": begun, "session": self._state.session}, b""

    def _put(self, owner, said, data):
        """Takes the next part of a set in: its own needs no data."""
        arriving, start = self._arriving.get(owner, bytearray()), _number(said, "start")
        if owner in self._sets or start * POINT_BYTES != len(arriving):
            raise UserError(f"a part of the set of {owner} came that is not the next: a set passes once, in order.")
        points = self._points[start : start + _number(said, "count")] if owner == self.name else _points_of(data)
        if owner != self.name and (found := self._masked_of_others() + len(points)) > self._most:
            raise UserError(
                f"with those of {owner} the others have {found} or more identifiers, above the limit of {self._most}: "
                "they may be guesses; raise the limit if it is due."
            )
        masked = self._masks.mask(points).tobytes()
        self._state.append(owner, len(arriving), masked, str(said.get("session", "")))
        self._arriving[owner] = arriving
        arriving += masked
        return {"rows": len(arriving) // POINT_BYTES}, b""

    def _masked_of_others(self):
        arriving = sum(len(found) // POINT_BYTES for of, found in self._arriving.items() if of != self.name)
        return arriving + sum(len(found) for of, found in self._sets.items() if of != self.name)

    def _mix(self, owner):
        """Shuffles a set by a permutation that the secret decides."""
        points = _points_of(bytes(self._arriving.pop(owner)))
        seed = hashlib.sha256(self._secret + owner.encode()).digest()
        places = np.random.default_rng(int.from_bytes(seed, "big")).permutation(len(points))
        self._places[owner], self._sets[owner] = places, points[places]

    def _take(self, owner, said, data):
        if owner in self._arriving:
            self._state.complete(owner)  # before anything of it is seen, so that nothing can be added to it
            self._mix(owner)
        found, start, count = self._known(owner, self._sets), _number(said, "start"), _number(said, "count")
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
        self._state.discard()
        return {"rows": len(self.order.rows)}, b""

    def _known(self, owner, sets):
        if owner not in sets:
            raise UserError(f"there is no set of {owner} here yet.")
        return sets[owner]


def _number(said, name):
    if type(value := said.get(name)) is not int or value < 0:
        raise UserError(f"a message came whose {name} is no number: use the same release of tff_tx.")
    return value


def _points_of(data: bytes) -> np.ndarray:
    if len(data) % POINT_BYTES:
        raise UserError("a party sent what are no points.")
    return np.frombuffer(data, np.uint8).reshape(-1, POINT_BYTES)
