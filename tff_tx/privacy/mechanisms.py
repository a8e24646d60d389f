"""The mechanisms of the server, which hide clients: independent, tree and banded noise, and what sampling amplifies."""

from __future__ import annotations

import dataclasses
import math

import dp_accounting

from tff_tx.core.errors import UserError
from tff_tx.privacy import tree
from tff_tx.privacy.matrix_factorization import BandedMatrix
from tff_tx.privacy.mechanism import ADD_OR_REMOVE, REPLACE, ZERO_OUT, OneGaussian, participation_told
from tff_tx.privacy.participation import Participation

SAMPLING = ("poisson", "without_replacement", "none")
"""By what a guarantee may be amplified."""

_BY_SAMPLER = {"poisson": "poisson", "uniform": "without_replacement"}
"""By what the samplers of `tff_tx.cohorts` amplify; all others by nothing."""


def amplification(sampler: str, claimed: str | None = None) -> str:
    """By which sampling a guarantee is amplified, which is for the sampler to say that draws the cohorts.

    Args:
      sampler: The name of a sampler of `tff_tx.cohorts`, the value of --sampling.
      claimed: One of `SAMPLING` that the accounting should assume; None: the best that holds.

    Raises:
      UserError: If the sampler does not sample as claimed.
    """
    holds = _BY_SAMPLER.get(sampler, "none")
    if claimed is None or claimed in (holds, "none"):
        return claimed or holds
    wanted = next(name for name, sampling in _BY_SAMPLER.items() if sampling == claimed)
    raise UserError(
        f"--amplification={claimed} does not hold for --sampling={sampler}, whose cohorts are drawn otherwise: sample "
        f"with --sampling={wanted}, or account with --amplification={holds}."
    )


@dataclasses.dataclass(frozen=True)
class Gaussian(OneGaussian):
    """Independent noise in every round: DP-FedAvg (McMahan et al. 2018, https://arxiv.org/abs/1710.06963).

    Adjacency: add-or-remove-one with Poisson sampling (Mironov et al. 2019, https://arxiv.org/abs/1908.10530);
    replace-one without replacement (Wang et al. 2019, https://arxiv.org/abs/1808.00087), where one client is lost and
    another gained, so that the noise multiplier counts half; zero-out without sampling.

    Attributes:
      noise_multiplier: Of the sum over a cohort; with adaptive clipping `AdaptiveClipping.noise_multiplier`.
      sampling: One of `SAMPLING`.
      clients_per_round: Size of a cohort, mean size with Poisson sampling; needed with sampling.
      population: Number of clients to draw from; needed with sampling.
      participation: Rounds a client may take part in, without sampling; with it, any.

    Raises:
      UserError: If a number is missing or out of range.
    """

    sampling: str = "none"
    clients_per_round: float | None = None
    population: int | None = None
    participation: Participation = Participation()

    def __post_init__(self):
        super().__post_init__()
        if self.sampling not in SAMPLING:
            raise UserError(f"--amplification={self.sampling} must be one of {', '.join(SAMPLING)}: correct it.")
        if self.sampling == "none":
            return
        for name in ("clients_per_round", "population"):
            if not (getattr(self, name) or 0) > 0:
                raise UserError(
                    f"--{name}={getattr(self, name)} must be above 0 to account with --amplification={self.sampling}: "
                    "say how many."
                )
        if self.clients_per_round > self.population:
            raise UserError(
                f"--clients_per_round={self.clients_per_round} is more than --population={self.population}: lower it."
            )

    @property
    def name(self):
        return "Gaussian noise, independent in every round (DP-FedAvg)"

    @property
    def sampling_probability(self) -> float:
        """That of a client to be in a round."""
        return self.clients_per_round / self.population

    @property
    def adjacency(self):
        relation = {"poisson": ADD_OR_REMOVE, "without_replacement": REPLACE, "none": ZERO_OUT}[self.sampling]
        return relation.format(self.unit, self.unit)

    @property
    def sampling_assumption(self):
        if self.sampling == "poisson":
            return (
                f"Poisson: every one of {self.population:,} clients is in a round independently with probability "
                f"{self.sampling_probability:.4g}"
            )
        if self.sampling == "without_replacement":
            return (
                f"every round has {self.clients_per_round:,.0f} of {self.population:,} clients, drawn uniformly "
                "without replacement"
            )
        return participation_told(self.participation) + "; no amplification by sampling"

    def sensitivity(self, rounds):
        return math.sqrt(self.participation.count(rounds))

    def event(self, rounds):
        if self.sampling == "none":
            return super().event(rounds)
        if self.sampling == "poisson":
            one = dp_accounting.PoissonSampledDpEvent(
                self.sampling_probability, dp_accounting.GaussianDpEvent(self.noise_multiplier)
            )
        else:
            one = dp_accounting.SampledWithoutReplacementDpEvent(
                self.population, round(self.clients_per_round), dp_accounting.GaussianDpEvent(self.noise_multiplier / 2)
            )
        return dp_accounting.SelfComposedDpEvent(one, rounds)

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(rounds)


@dataclasses.dataclass(frozen=True)
class AdaptiveClipping:
    """The two releases of a round of adaptive clipping, which together are one Gaussian mechanism.

    Andrew et al. 2021, https://arxiv.org/abs/1905.03871, Theorem 1: z = (z_delta^-2 + (2 sigma_b)^-2)^(-1/2), as a
    client changes the shifted count by at most a half. TFF splits z so in
    `tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive`; this puts together what was run.

    Attributes:
      value_noise_multiplier: z_delta, of the sum of updates, in units of the clip norm of the round.
      count_stddev: sigma_b, of the number of clients below the clip norm.
    """

    value_noise_multiplier: float
    count_stddev: float

    @property
    def noise_multiplier(self) -> float:
        """z: the noise multiplier of both."""
        if not self.value_noise_multiplier or not self.count_stddev:
            return 0.0
        return (self.value_noise_multiplier**-2 + (2 * self.count_stddev) ** -2) ** -0.5


@dataclasses.dataclass(frozen=True)
class TreeAggregation(OneGaussian):
    """Noise from the nodes of binary trees over the rounds: DP-FTRL (Kairouz et al. 2021).

    https://arxiv.org/abs/2103.00039, Appendix D; with the online variance reduction of Honaker 2015, which is no matter
    for privacy. Adjacency: zero-out. A client's every release is in one node of each height.

    Attributes:
      noise_multiplier: Of every node.
      restart_every: Rounds after which a new tree begins; None: one tree for all.
      participation: Rounds a client may take part in.
    """

    restart_every: int | None = None
    participation: Participation = Participation()

    def __post_init__(self):
        super().__post_init__()
        if self.restart_every is not None and self.restart_every < 1:
            raise UserError(f"--restart_rounds={self.restart_every} must be 1 or more: raise it, or leave it out.")

    @property
    def name(self):
        restarts = "" if self.restart_every is None else f", a new tree every {self.restart_every} rounds"
        return f"Gaussian noise by tree aggregation (DP-FTRL{restarts})"

    @property
    def adjacency(self):
        return ZERO_OUT.format(self.unit, self.unit)

    @property
    def sampling_assumption(self):
        return participation_told(self.participation) + "; no amplification by sampling"

    def sensitivity(self, rounds):
        return math.sqrt(tree.squared_sensitivity(rounds, self.participation, self.restart_every))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(tree.sum_variances(rounds, self.restart_every)[-1])


@dataclasses.dataclass(frozen=True)
class MatrixFactorization(OneGaussian):
    """Noise C^-1 Z for a banded matrix C: BandMF (Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153).

    Adjacency: zero-out.

    Attributes:
      noise_multiplier: Of Z.
      matrix: C.
      participation: Rounds a client may take part in; best with a separation of as many rounds as C has bands.
    """

    matrix: BandedMatrix
    participation: Participation = Participation()

    @property
    def name(self):
        return f"Gaussian noise by banded matrix factorization (BandMF, {self.matrix.bands} bands)"

    @property
    def adjacency(self):
        return ZERO_OUT.format(self.unit, self.unit)

    @property
    def sampling_assumption(self):
        return participation_told(self.participation) + "; no amplification by sampling"

    def sensitivity(self, rounds):
        return self.matrix.sensitivity(self.participation, rounds)

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(self.matrix.sum_variances()[rounds - 1])
