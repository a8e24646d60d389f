"""What all mechanisms of differential privacy have: noise, sampling, adjacency, and as which events their rounds count.

Noise multipliers are standard deviations in units of the clip norm. A mechanism says as which `dp_accounting.DpEvent`
so many rounds of it count; `tff_tx.privacy.accounting` makes numbers of that.
"""

from __future__ import annotations

import dataclasses
import math

import dp_accounting

from tff_tx.core.errors import UserError
from tff_tx.privacy.participation import Participation

ADD_OR_REMOVE = "add-or-remove-one {}: the data sets differ by the presence of one {}, and the size is not public"
REPLACE = "replace-one {}: one {} is replaced by any other, and the number of them is public"
ZERO_OUT = (
    "zero-out one {}: the contributions of one {} are replaced by zeros, and everything else, the rounds that each "
    "takes part in included, stays"
)


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """What all mechanisms have.

    Attributes:
      noise_multiplier: z, 0 or more; 0 is no privacy.

    Raises:
      UserError: If the noise multiplier is below 0.
    """

    noise_multiplier: float

    unit = "client"
    """Whose data the guarantee hides: client or example."""

    def __post_init__(self):
        if not 0 <= self.noise_multiplier < math.inf:
            raise UserError(f"--noise_multiplier={self.noise_multiplier} must be a number of 0 or more: correct it.")

    @property
    def name(self) -> str:
        """What it is called."""
        raise NotImplementedError

    @property
    def adjacency(self) -> str:
        """Which data sets are neighbours."""
        raise NotImplementedError

    @property
    def sampling_assumption(self) -> str:
        """What is assumed of who takes part when."""
        raise NotImplementedError

    def event(self, rounds: int) -> dp_accounting.DpEvent:
        """As what so many rounds count, 1 or more."""
        raise NotImplementedError

    def sum_stddev(self, rounds: int) -> float:
        """Standard deviation of each number of the noise in the sum of the updates of so many rounds, in clip norms."""
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
        """By how much a client of clip norm 1 changes what noise is added to, in L2 norm."""
        raise NotImplementedError

    def event(self, rounds):
        return dp_accounting.GaussianDpEvent(self.noise_multiplier / self.sensitivity(rounds))


def participation_told(participation: Participation) -> str:
    """Who takes part when, in words."""
    most = (
        ""
        if participation.max_participations is None
        else f", at most {participation.max_participations} rounds in all"
    )
    if participation.min_separation == 1:
        return f"a client may be in any round{most}"
    return f"a client is in at most one of any {participation.min_separation} consecutive rounds{most}"
