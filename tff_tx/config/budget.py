"""The budget of a study."""

from __future__ import annotations

import dataclasses
import re

from tff_tx.core.errors import UserError, setting

ROUNDS, CLIENT_SECONDS, BYTES, SECONDS = COSTS = ("rounds", "client_seconds", "bytes", "seconds")
"""What is counted: rounds of training; seconds of clients' work on their simulated devices; bytes that clients send and
receive; and seconds on this machine."""

_UNITS = {
    "rounds": (ROUNDS, 1),
    "round": (ROUNDS, 1),
    "client-seconds": (CLIENT_SECONDS, 1),
    "client-hours": (CLIENT_SECONDS, 3600),
    "bytes": (BYTES, 1),
    "MB": (BYTES, 10**6),
    "GB": (BYTES, 10**9),
    "TB": (BYTES, 10**12),
    "s": (SECONDS, 1),
    "min": (SECONDS, 60),
    "h": (SECONDS, 3600),
}
_SHOWN = {ROUNDS: (1, "rounds"), CLIENT_SECONDS: (1, "client-seconds"), BYTES: (10**6, "MB"), SECONDS: (1, "s")}


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much a study may spend.

    Attributes:
      amount: In `cost`'s unit, above 0.
      cost: One of `COSTS`.
    """

    amount: float
    cost: str = ROUNDS

    @classmethod
    def of(cls, text: str | float) -> Budget:
        """A budget from "400 rounds", "5000 client-seconds", "2 GB", "30 min" or a number of rounds.

        Raises:
          UserError: If it is none.
        """
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z-]*)\s*", str(text))
        unit = _UNITS.get((match[2] or "rounds") if match else "")
        try:
            amount = float(match[1]) if match else 0.0
        except ValueError:
            amount = 0.0
        if unit is None or not 0 < amount < 1e300:
            raise UserError(
                f"{setting('tune.budget')}={text}: must be a number above 0 and a unit, one of {', '.join(_UNITS)}."
            )
        return cls(amount * unit[1], unit[0])

    @property
    def unit(self) -> tuple[int, str]:
        """The unit that amounts are shown in: its size in that of `cost`, and its name."""
        return _SHOWN[self.cost]

    def __str__(self) -> str:
        size, unit = self.unit
        return f"{self.amount / size:,.10g} {unit}"
