"""The way of each party's set through all parties, and of the common positions back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np

from tff_tx.core.errors import UserError
from tff_tx.federation.alignment.identifiers import POINT_BYTES, as_keys
from tff_tx.federation.alignment.member import VERSION

CHUNK_POINTS = 8192
"""Points of a message, 256 KiB."""

Ask = Callable[[str, str, Mapping[str, Any], bytes], "tuple[dict[str, Any], bytes]"]
"""(party, phase, what is said, data) -> what it answers, see `Member.answer`."""


def intersect(
    ask: Ask,
    names: Sequence[str],
    match: str = "ecdh",
    progress: Callable[[int, int], None] = lambda done, total: None,
    identifier: str = "",
) -> int:
    """Has all parties learn the common order of their rows; returns the number of common rows.

    What passes here is masked by every party but, on its way, those that a set has not come to yet; whoever runs this
    is one of the parties and has but one of the secrets.

    Args:
      ask: Sends a party a message.
      names: The parties, two or more.
      match: Name of the masks.
      progress: Called with the number of points masked so far and of all.
      identifier: Of this intersection; parties go on with what they have masked under the same one.

    Raises:
      UserError: If a party rejects a message, or nothing is in common.
    """
    if len(names) < 2:
        raise UserError("an intersection is between two or more parties: name another.")
    session, sizes, there = _agree(ask, names, {"version": VERSION, "match": match, "identifier": identifier})
    total, done = sum(sizes.values()) * len(names), 0
    masked = {}
    for owner in names:
        for station in _route(owner, names):
            for start in range(int(there[station].get(owner, 0)), sizes[owner], CHUNK_POINTS):
                points = masked[owner][start : start + CHUNK_POINTS].tobytes() if owner in masked else b""  # its own
                part = {"owner": owner, "session": session, "start": start, "count": CHUNK_POINTS}
                ask(station, "put", part, points)
                progress(done + start, total)
            masked[owner] = _take(ask, station, owner, sizes[owner])
            done += sizes[owner]
            progress(done, total)
    common = as_keys(masked[names[0]])
    for name in names[1:]:
        common = np.intersect1d(common, as_keys(masked[name]))
    if not len(common):
        raise UserError(
            "the parties have no identifier in common: check that all name the same column and normalize alike."
        )
    for owner in names:
        _send_back(ask, owner, names, _positions(as_keys(masked[owner]), common))
    # Sorted by what all secrets together made of them, rows are in an order that tells nothing of identifiers.
    alignment = hashlib.sha256(common.tobytes()).hexdigest()[:32]
    for name in names:
        ask(name, "order", {"alignment": alignment}, b"")
    return len(common)


def _agree(ask, names, opening):
    """Before anything of the data is sent: the session, each party's rows, and what it has masked already."""
    said = {name: ask(name, "size", opening, b"")[0] for name in names}
    session = hashlib.sha256("".join(said[name]["begun"] for name in names).encode()).hexdigest()
    for name in names:
        if said[name]["session"] not in ("", session):
            raise UserError(
                f"{name} has part of an intersection in which another party had another table or secret: remove the "
                "unfinished one of the party that coordinates, and start all again."
            )
    sizes = {name: int(told["rows"]) for name, told in said.items()}
    return session, sizes, {name: told["masked"] for name, told in said.items()}


def _route(owner: str, names: Sequence[str]) -> list[str]:
    return [owner, *(name for name in names if name != owner)]


def _take(ask, station, owner, size) -> np.ndarray:
    found = bytearray()
    for start in range(0, size, CHUNK_POINTS):
        found += ask(station, "take", {"owner": owner, "start": start, "count": CHUNK_POINTS}, b"")[1]
    if len(found) != size * POINT_BYTES:
        raise UserError(f"{station} sent another number of points than the {size} of {owner}: it is rejected.")
    return np.frombuffer(bytes(found), np.uint8).reshape(-1, POINT_BYTES)


def _positions(keys: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Where each of the common keys is among the keys."""
    order = np.argsort(keys)
    return order[np.searchsorted(keys, common, sorter=order)].astype("<u4")


def _send_back(ask, owner, names, positions):
    data = positions.tobytes()
    for station in reversed(_route(owner, names)):
        data = ask(station, "positions", {"owner": owner}, data)[1]
