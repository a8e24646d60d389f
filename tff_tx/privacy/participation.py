"""How often, and how soon again, one client may take part: what correlated noise is accounted by."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tff_tx.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Participation:
    """The rounds that one client may take part in: (k, b)-participation.

    "b-min-sep-participation" of Choquette-Choo et al., "(Amplified) Banded Matrix Factorization", 2023,
    https://arxiv.org/abs/2306.08153, Section 2; with the defaults a client may be in every round.

    Attributes:
      min_separation: b: between two rounds of a client there are at least b - 1 without it, at least 1.
      max_participations: k: the most rounds of a client in all; None: as many as the separation leaves.

    Raises:
      UserError: If one of them is below 1.
    """

    min_separation: int = 1
    max_participations: int | None = None

    def __post_init__(self):
        for name in ("min_separation", "max_participations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name}={value} must be 1 or more: raise it, or leave it out.")

    def count(self, rounds: int) -> int:
        """The most participations of a client in so many rounds."""
        most = math.ceil(rounds / self.min_separation)
        return most if self.max_participations is None else min(most, self.max_participations)


def largest_sum(values: np.ndarray, participation: Participation) -> np.ndarray:
    """The largest sum over the rounds of one client.

    The dynamic program "VecSens" of Choquette-Choo et al. 2023, Section 3 and Appendix E, for many vectors at once.

    Args:
      values: What each round adds, 0 or more, [..., rounds] floats.
      participation: The rounds that a client may take part in.

    Returns:
      The maximum over all patterns, [...] floats.
    """
    values = np.asarray(values, float)
    rounds, gap = values.shape[-1], participation.min_separation
    if rounds == 0:
        return np.zeros(values.shape[:-1])
    best = np.zeros_like(values)  # over the rounds up to each, with as many participations as turns of the loop
    for _ in range(participation.count(rounds)):
        before = np.zeros_like(values)
        before[..., gap:] = best[..., : max(0, rounds - gap)]
        best = np.maximum.accumulate(values + before, axis=-1)
    return best[..., -1]
