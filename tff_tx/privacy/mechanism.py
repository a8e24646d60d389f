"""Mechanisms of differential privacy: noise, sampling, adjacency, and the event that their rounds compose to.

Noise multipliers are standard deviations in units of the clip norm. A mechanism gives the `dp_accounting.DpEvent` of a
number of rounds; `tff_tx.privacy.accounting` computes epsilon from it.
"""

from __future__ import annotations

import dataclasses
import math

import dp_accounting

from tff_tx.core.errors import UserError

ADD_OR_REMOVE = "add-or-remove-one {0}: the data sets differ by the presence of one {0}, and the size is not public"
REPLACE = "replace-one {0}: one {0} is replaced by any other, and the number of them is public"
ZERO_OUT = (
    "zero-out one {0}: the contributions of one {0} are replaced by zeros, and everything else, the rounds that each "
    "takes part in included, stays"
)


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
        """Composition of `rounds` rounds, 1 or more."""
        raise NotImplementedError

    def sum_stddev(self, rounds: int) -> float:
        """Standard deviation of a coordinate of the noise in the sum of all rounds' updates, in clip norms."""
        raise NotImplementedError

    def with_noise(self, noise_multiplier: float) -> Mechanism:
        """The same with other noise."""
        return dataclasses.replace(self, noise_multiplier=noise_multiplier)


class OneGaussian(Mechanism):
    """A mechanism all of whose releases are one Gaussian release with a sensitivity, whatever the client sends when.

    Holds for updates that depend on earlier releases too: Denisov et al. 2022, https://arxiv.org/abs/2202.08312,
    Theorem 2.1.
    """

    def sensitivity(self, rounds: int) -> float:
        """L2 sensitivity of what noise is added to, for updates of clip norm 1."""
        raise NotImplementedError

    def event(self, rounds):
        return dp_accounting.GaussianDpEvent(self.noise_multiplier / self.sensitivity(rounds))
