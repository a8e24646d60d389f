"""Mechanisms of differential privacy: participation, noise, adjacency, and the event that their rounds compose to.

Noise multipliers are standard deviations in units of the clip norm. A mechanism gives the `dp_accounting.DpEvent` of a
number of rounds; `tff_tx.privacy.accounting` computes epsilon from it.
"""

from __future__ import annotations

import dataclasses
import math

import dp_accounting
import numpy as np

from tff_tx.config import CohortConfig
from tff_tx.core.errors import UserError

ADD_OR_REMOVE = "add-or-remove-one {0}: the data sets differ by the presence of one {0}"
REPLACE = "replace-one {0}: one {0} is replaced by any other, and the number of them is public"
ZERO_OUT = (
    "zero-out one {0}: the contributions of one {0} are replaced by zeros, and everything else, the rounds that each "
    "takes part in included, stays"
)


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
        """The participation that a sampler of `num_clients` clients ensures."""
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
    """The largest sum of values, 0 or more, over the rounds of one client: [..., rounds] -> [...].

    The dynamic program "VecSens" of Choquette-Choo et al. 2023, Section 3 and Appendix E, for many vectors at once.
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


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A mechanism.

    Attributes:
      noise_multiplier: z, 0 or more; 0 is no privacy.

    Raises:
      UserError: If the noise multiplier is below 0.
    """

    noise_multiplier: float

    unit = "client"
    """Unit of privacy: client or example."""
    name = ""
    """Its name in statements."""
    relation = ZERO_OUT
    """Adjacency with the unit left open: which data sets are neighbours."""
    setting = "central: the server is trusted to clip and to add the noise, and sees the clients' updates"
    """Who is trusted, in statements."""
    output = "the models of all rounds, the last one included"
    """What the guarantee covers, in statements."""
    protected = "a client with all of its data"
    """The unit of privacy in statements."""
    steps = 1
    """Noised sums in a round."""

    def __post_init__(self):
        if not 0 <= self.noise_multiplier < math.inf:
            raise UserError(f"noise_multiplier={self.noise_multiplier}: must be a number, at least 0.")

    @property
    def adjacency(self) -> str:
        """Adjacency: which data sets are neighbours."""
        return self.relation.format(self.unit)

    @property
    def sampling_assumption(self) -> str:
        """Assumption on the rounds that a client takes part in, by its `participation`."""
        return self.participation.describe() + "; no amplification by sampling"

    def event(self, rounds: int) -> dp_accounting.DpEvent:
        """Composition of `rounds` rounds, 1 or more; `UnsupportedDpEvent`: by `rdp`."""
        raise NotImplementedError

    def rdp(self, rounds: int) -> tuple[np.ndarray, np.ndarray]:
        """Orders and Renyi divergences of `rounds` rounds, of a mechanism of which `dp_accounting` has no event."""
        raise NotImplementedError

    def sum_stddev(self, rounds: int) -> float:
        """Standard deviation of a coordinate of the noise in the sum of all rounds' updates, in clip norms."""
        raise NotImplementedError

    def sum_covariance(self, rounds: int) -> np.ndarray:
        """Covariance of a coordinate of the noise in the running sums after each round, in clip norms squared.

        Returns:
          float64 [rounds, rounds]; here for independent noise in every round.
        """
        return self.sum_stddev(1) ** 2 * np.minimum.outer(np.arange(1, rounds + 1.0), np.arange(1, rounds + 1.0))

    def with_noise(self, noise_multiplier: float) -> Mechanism:
        """The same with other noise."""
        return dataclasses.replace(self, noise_multiplier=noise_multiplier)


class OneGaussian(Mechanism):
    """A mechanism all of whose releases are one Gaussian release with a sensitivity, whatever the client sends when.

    Holds for updates that depend on earlier releases too: Denisov et al. 2022, https://arxiv.org/abs/2202.08312,
    Theorem 2.1. Private metrics of training are released beside it, with noise that is independent in every round.
    """

    metrics_share = 0.0
    """Of z^-2, for private metrics: their noise multiplier is z / sqrt(share), and the updates' z / sqrt(1 - share)."""

    def sensitivity(self, rounds: int) -> float:
        """L2 sensitivity of what noise is added to, for updates of clip norm 1."""
        raise NotImplementedError

    def event(self, rounds):
        sensitivity, share = self.sensitivity(rounds), self.metrics_share
        if share:
            sensitivity = math.sqrt((1 - share) * sensitivity**2 + share * self.participation.count(rounds))
        return dp_accounting.GaussianDpEvent(self.noise_multiplier / sensitivity)
