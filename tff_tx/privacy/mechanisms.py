"""Mechanisms of the server, which hide clients: independent, tree and banded noise; amplification by sampling."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import dp_accounting
import numpy as np

from tff_tx.config import RunConfig
from tff_tx.config.privacy import MOST_BANDS, SAMPLING
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy import tree
from tff_tx.privacy.accounting import find_noise_multiplier
from tff_tx.privacy.matrix_factorization import BandedMatrix, optimize_banded
from tff_tx.privacy.mechanism import ADD_OR_REMOVE, REPLACE, ZERO_OUT, Mechanism, OneGaussian, Participation

_BY_SAMPLER = {"poisson": "poisson", "uniform": "without_replacement"}
"""Amplification by sampler of `tff_tx.cohorts`; all others have none."""


def amplification(sampler: str, claimed: str | None = None) -> str:
    """The sampling by which a guarantee is amplified.

    Args:
      sampler: Name of a sampler of `tff_tx.cohorts`.
      claimed: One of `tff_tx.config.privacy.SAMPLING` that the accounting should assume; None: that of the sampler.

    Raises:
      UserError: If the sampler does not sample as claimed.
    """
    holds = _BY_SAMPLER.get(sampler, "none")
    if claimed is None or claimed in (holds, "none"):
        return claimed or holds
    wanted = next(name for name, sampling in _BY_SAMPLER.items() if sampling == claimed)
    raise UserError(
        f"{setting('privacy.amplification')}={claimed} does not hold with {setting('cohort.sampling')}={sampler}: set "
        f"{setting('cohort.sampling')}={wanted}, or {setting('privacy.amplification')}={holds}."
    )


@dataclasses.dataclass(frozen=True)
class Gaussian(OneGaussian):
    """Independent noise in every round: DP-FedAvg (McMahan et al. 2018, https://arxiv.org/abs/1710.06963).

    Adjacency: add-or-remove-one with Poisson sampling (Mironov et al. 2019, https://arxiv.org/abs/1908.10530);
    replace-one without replacement (Wang et al. 2019, https://arxiv.org/abs/1808.00087), where one client is lost and
    another gained, so that the noise multiplier counts half; zero-out without sampling.

    Attributes:
      noise_multiplier: Of the sum over a cohort.
      sampling: One of `tff_tx.config.privacy.SAMPLING`.
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

    name = "Gaussian noise, independent in every round (DP-FedAvg)"

    def __post_init__(self):
        super().__post_init__()
        if self.sampling not in SAMPLING:
            raise UserError(f"sampling={self.sampling}: must be one of {', '.join(SAMPLING)}.")
        if self.sampling == "none":
            return
        for path in ("cohort.clients_per_round", "privacy.population"):
            value = getattr(self, path.partition(".")[2])
            if not (value or 0) > 0:
                raise UserError(
                    f"{setting(path)}={value}: must be above 0 for amplification by sampling ({self.sampling}); set it."
                )
        if self.clients_per_round > self.population:
            raise UserError(
                f"{setting('cohort.clients_per_round')}={self.clients_per_round:g} is more than "
                f"{setting('privacy.population')}={self.population}: lower it."
            )

    @property
    def sampling_probability(self) -> float:
        """That of a client to be in a round."""
        return self.clients_per_round / self.population

    @property
    def relation(self):
        return {"poisson": ADD_OR_REMOVE, "without_replacement": REPLACE, "none": ZERO_OUT}[self.sampling]

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
        return super().sampling_assumption

    def sensitivity(self, rounds):
        return math.sqrt(self.participation.count(rounds))

    def event(self, rounds):
        if self.sampling == "none":
            return super().event(rounds)
        if self.sampling == "poisson":
            noise = dp_accounting.GaussianDpEvent(self.noise_multiplier)
            one = dp_accounting.PoissonSampledDpEvent(self.sampling_probability, noise)
        else:
            noise, cohort = dp_accounting.GaussianDpEvent(self.noise_multiplier / 2), round(self.clients_per_round)
            one = dp_accounting.SampledWithoutReplacementDpEvent(self.population, cohort, noise)
        return dp_accounting.SelfComposedDpEvent(one, rounds)

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(rounds)


@dataclasses.dataclass(frozen=True)
class AdaptiveClipping(Gaussian):
    """Independent noise in two releases a round: the sum of clipped updates, and the count that the clip norm follows.

    Andrew et al. 2021, https://arxiv.org/abs/1905.03871, Theorem 1: both together are one Gaussian mechanism with
    z = (z_delta^-2 + (2 sigma_b)^-2)^(-1/2), as a client changes the shifted count by at most a half. So epsilon and
    adjacency are those of `Gaussian`, whatever z is split into.

    Attributes:
      noise_multiplier: z, of both releases.
      count_stddev: sigma_b, the standard deviation of the noise of the number of clients below the clip norm; None: not
        chosen yet.
    """

    count_stddev: float | None = None

    @classmethod
    def of_releases(cls, value_noise_multiplier: float, count_stddev: float, **sampling: Any) -> AdaptiveClipping:
        """The mechanism of a sum of updates with z_delta, in units of the clip norm, and a count with sigma_b."""
        noise_multiplier = 0.0
        if value_noise_multiplier and count_stddev:
            noise_multiplier = (value_noise_multiplier**-2 + (2 * count_stddev) ** -2) ** -0.5
        return cls(noise_multiplier, count_stddev=count_stddev, **sampling)

    @property
    def name(self):
        stddev = "" if self.count_stddev is None else f" of standard deviation {self.count_stddev:.4g}"
        return (
            "Gaussian noise, independent in every round, with adaptive clipping (DP-FedAvg; the clip norm follows a "
            f"quantile, estimated from a count with noise{stddev} that is part of the budget)"
        )


@dataclasses.dataclass(frozen=True)
class TreeAggregation(OneGaussian):
    """Noise from the nodes of binary trees over the rounds: DP-FTRL (Kairouz et al. 2021).

    https://arxiv.org/abs/2103.00039, Appendix D; with the online variance reduction of Honaker 2015, which is no matter
    for privacy. Adjacency: zero-out. A client's every release is in one node of each height.

    Attributes:
      noise_multiplier: Of every node.
      restart_every: Rounds after which a new tree begins; None: one tree for all.
      participation: Rounds a client may take part in.
      metrics_share: As of `OneGaussian`.
    """

    restart_every: int | None = None
    participation: Participation = Participation()
    metrics_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.restart_every is not None and self.restart_every < 1:
            raise UserError(f"restart_every={self.restart_every}: must be at least 1.")

    @property
    def name(self):
        restarts = "" if self.restart_every is None else f", a new tree every {self.restart_every} rounds"
        return f"Gaussian noise by tree aggregation (DP-FTRL{restarts})"

    def sensitivity(self, rounds):
        return math.sqrt(tree.squared_sensitivity(rounds, self.participation, self.restart_every))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(tree.sum_variances(rounds, self.restart_every)[-1])

    def sum_covariance(self, rounds):
        weights = self.noise_multiplier * tree.sum_weights(rounds, self.restart_every)
        return weights @ weights.T


@dataclasses.dataclass(frozen=True)
class MatrixFactorization(OneGaussian):
    """Noise C^-1 Z for a banded matrix C: BandMF (Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153).

    Adjacency: zero-out.

    Attributes:
      noise_multiplier: Of Z.
      matrix: C.
      participation: Rounds a client may take part in; best with a separation of as many rounds as C has bands.
      metrics_share: As of `OneGaussian`.
    """

    matrix: BandedMatrix
    participation: Participation = Participation()
    metrics_share: float = 0.0

    @property
    def name(self):
        return f"Gaussian noise by banded matrix factorization (BandMF, {self.matrix.bands} bands)"

    def sensitivity(self, rounds):
        return self.matrix.sensitivity(self.participation, rounds)

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(self.matrix.sum_variances()[rounds - 1])

    def sum_covariance(self, rounds):
        weights = self.noise_multiplier * np.linalg.solve(self.matrix.dense()[:rounds, :rounds].T, np.tri(rounds).T).T
        return weights @ weights.T


_MOST_ROUNDS = {"tree": 100_000, "banded": 10_000}
"""Where the noises of rounds depend on each other, tables by two rounds, or by round and node, are computed."""


def check_rounds(config: RunConfig, name: str) -> None:
    """Rejects more rounds than a mechanism, by its name, can be accounted for in minutes."""
    most = _MOST_ROUNDS.get(name, math.inf)
    if config.run.rounds > most:
        raise UserError(
            f"{setting('run.rounds')}={config.run.rounds} is more than the {most:,} that {name} noise is computed for: "
            f"lower it, or choose the mechanism gaussian."
        )


def server_mechanism(
    config: RunConfig,
    name: str,
    cohort: float,
    population: int | None,
    participation: Participation,
    target: np.ndarray | None = None,
) -> Mechanism:
    """A mechanism of the server by its name in `tff_tx.config.privacy.MECHANISMS`, with a noise multiplier of 1.

    Banded noise is optimized for a target workload, [rounds, rounds]; None: running sums.

    Raises:
      UserError: If the sampling does not amplify as claimed, or the settings do not fit each other.
    """
    check_rounds(config, name)
    settings = config.privacy
    sampling = amplification(config.cohort.sampling, settings.amplification)
    if name == "tree":
        return TreeAggregation(1.0, settings.restart_rounds, participation, settings.budget_of_metrics)
    if name == "banded":
        matrix = optimize_banded(config.run.rounds, _num_bands(settings.bands, participation), target)
        return MatrixFactorization(1.0, matrix, participation, settings.budget_of_metrics)
    build = AdaptiveClipping if name == "adaptive" else Gaussian
    return build(1.0, sampling, cohort, population, participation)


def _num_bands(bands, participation):
    separation = participation.min_separation
    if bands is not None and bands > separation:
        raise UserError(
            f"{setting('privacy.bands')}={bands} is more than the {separation} rounds from a client's turn to its "
            f"next: lower it, or raise {setting('cohort.min_separation')}."
        )
    return bands or min(separation, MOST_BANDS)


def with_noise(config: RunConfig, mechanism: Mechanism, delta: float) -> Mechanism:
    """The mechanism with the noise multiplier of the settings, or the least one for their target epsilon.

    Raises:
      UserError: If no noise reaches the target, or the accountant does not cover the mechanism.
    """
    settings, noise_multiplier = config.privacy, config.privacy.noise_multiplier
    if noise_multiplier is None:
        noise_multiplier = find_noise_multiplier(
            mechanism, config.run.rounds, settings.target_epsilon, delta, settings.accountant
        )
    return mechanism.with_noise(noise_multiplier)
