"""Participation of one client over rounds, by which correlated noise is accounted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tff_tx.config import CohortConfig
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
                raise UserError(f"{name}={value}: must be at least 1; raise it, or leave it out.")

    @classmethod
    def of(cls, cohort: CohortConfig, num_clients: int, max_participations: int | None = None) -> Participation:
        """The participation that a sampler ensures.

        Args:
          cohort: Settings of the sampler.
          num_clients: Clients that it samples from.
          max_participations: k.
        """
        if cohort.sampling != "min_separation":
            return cls(1, max_participations)
        return cls(cohort.min_separation or max(1, num_clients // cohort.clients_per_round), max_participations)

    def count(self, rounds: int) -> int:
        """Maximum number of participations of a client in `rounds` rounds."""
        most = math.ceil(rounds / self.min_separation)
        return most if self.max_participations is None else min(most, self.max_participations)

    def describe(self) -> str:
        """The assumption in words."""
        most = "" if self.max_participations is None else f", at most {self.max_participations} rounds in all"
        if self.min_separation == 1:
            return f"a client may be in any round{most}"
        return f"a client is in at most one of any {self.min_separation} consecutive rounds{most}"


def largest_sum(values: np.ndarray, participation: Participation) -> np.ndarray:
    """The largest sum over the rounds of one client.

    The dynamic program "VecSens" of Choquette-Choo et al. 2023, Section 3 and Appendix E, for many vectors at once.

    Args:
      values: Contribution of each round, 0 or more, [..., rounds] floats.
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
