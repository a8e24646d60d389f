"""What sums of many clients are to withstand: colluders and dropouts."""

from __future__ import annotations

import dataclasses
import math

_ROUNDING = 1e-14


@dataclasses.dataclass(frozen=True)
class Threat:
    """What a session is to withstand.

    Attributes:
      colluding: Share of the clients that the server may have on its side, gamma.
      dropping: Share of the clients that may vanish on the way, delta.
      active: Whether the server may deviate from the protocol, rather than follow it and look.
    """

    colluding: float = 0.2
    dropping: float = 0.1
    active: bool = True

    def __post_init__(self):
        if not (0 <= self.colluding < 1 and 0 <= self.dropping < 1):
            raise ValueError(f"{self}: shares must be at least 0 and less than 1.")

    def colluders(self, clients: int) -> int:
        """Of so many clients: floor(gamma n)."""
        return math.floor((self.colluding + _ROUNDING) * clients)

    def survivors(self, clients: int) -> int:
        """Of so many clients those that stay, at least: n - floor(delta n)."""
        return clients - math.floor((self.dropping + _ROUNDING) * clients)
