"""What was run, as far as privacy is concerned: the mechanism, its noise, its sampling and its adjacency.

Noise multipliers are standard deviations in units of the clip norm. A mechanism says as which `dp_accounting.DpEvent`
so many rounds of it count; `tff_tx.privacy.accounting` makes numbers of that.
"""

from __future__ import annotations

import dataclasses
import math

import dp_accounting

from tff_tx.errors import UserError
from tff_tx.privacy import tree
from tff_tx.privacy.matrix_factorization import BandedMatrix
from tff_tx.privacy.participation import Participation

SAMPLING = ("poisson", "without_replacement", "none")
"""By what a guarantee may be amplified."""

_BY_SAMPLER = {"poisson": "poisson", "uniform": "without_replacement"}
"""By what the samplers of `tff_tx.cohorts` amplify; all others by nothing."""

ADD_OR_REMOVE = "add-or-remove-one {}: the data sets differ by the presence of one {}, and the size is not public"
REPLACE = "replace-one {}: one {} is replaced by any other, and the number of them is public"
ZERO_OUT = (
    "zero-out one {}: the contributions of one {} are replaced by zeros, and everything else, the rounds that each "
    "takes part in included, stays"
)


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


class _OneGaussian(Mechanism):
    """A mechanism all of whose releases are one Gaussian release with a sensitivity, whatever the client sends when.

    Holds for updates that depend on earlier releases too: Denisov et al. 2022, https://arxiv.org/abs/2202.08312,
    Theorem 2.1.
    """

    def sensitivity(self, rounds: int) -> float:
        """By how much a client of clip norm 1 changes what noise is added to, in L2 norm."""
        raise NotImplementedError

    def event(self, rounds):
        return dp_accounting.GaussianDpEvent(self.noise_multiplier / self.sensitivity(rounds))


@dataclasses.dataclass(frozen=True)
class Gaussian(_OneGaussian):
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
        return _told(self.participation) + "; no amplification by sampling"

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
class TreeAggregation(_OneGaussian):
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
        return _told(self.participation) + "; no amplification by sampling"

    def sensitivity(self, rounds):
        return math.sqrt(tree.squared_sensitivity(rounds, self.participation, self.restart_every))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(tree.sum_variances(rounds, self.restart_every)[-1])


@dataclasses.dataclass(frozen=True)
class MatrixFactorization(_OneGaussian):
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
        return _told(self.participation) + "; no amplification by sampling"

    def sensitivity(self, rounds):
        return self.matrix.sensitivity(self.participation, rounds)

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(self.matrix.sum_variances()[rounds - 1])


@dataclasses.dataclass(frozen=True)
class LocalGaussian(_OneGaussian):
    """Every client clips and noises its update before anything leaves it: local differential privacy.

    Adjacency: replace-one, of a client's data by any other, for whoever sees that client's updates, the server
    included. Two clipped updates are twice the clip norm apart.

    Attributes:
      noise_multiplier: Of every client's update.
      clients_per_round: Size of a cohort; the sum over it has the noise of all.
      participation: Rounds a client may take part in.
    """

    clients_per_round: float = 1
    participation: Participation = Participation()

    @property
    def name(self):
        return "Gaussian noise added by every client to its own update (local)"

    @property
    def adjacency(self):
        return REPLACE.format(self.unit, self.unit) + "; the rounds that a client takes part in are not hidden"

    @property
    def sampling_assumption(self):
        return _told(self.participation) + "; no amplification by sampling, shuffling or aggregation"

    def sensitivity(self, rounds):
        return 2 * math.sqrt(self.participation.count(rounds))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(self.clients_per_round * rounds)


@dataclasses.dataclass(frozen=True)
class ExampleLevelSgd(Mechanism):
    """DP-SGD inside one client (Abadi et al. 2016, https://arxiv.org/abs/1607.00133): hides each of its examples.

    The guarantee is of one client's examples, against everyone but that client; it differs from client to client, and
    the run's is that of the worst: with Poisson sampling that with the fewest examples. Adjacency: add-or-remove-one
    example with Poisson sampling, zero-out else. With microbatches of several examples, one changes a clipped mean by
    up to twice the clip norm (Ponomareva et al. 2023, https://arxiv.org/abs/2303.00654, Section 5.6).

    Attributes:
      noise_multiplier: Of the sum over a batch.
      num_examples: Of the client.
      batch_size: Examples a batch, mean number with Poisson sampling.
      steps: Batches a round.
      sampling: poisson; or none: examples are shuffled and dealt out, each once a pass.
      microbatch_size: Examples that are clipped together.
      participation: Rounds the client may take part in.

    Raises:
      UserError: If a number is out of range.
    """

    num_examples: int = 1
    batch_size: int = 1
    steps: int = 1
    sampling: str = "none"
    microbatch_size: int = 1
    participation: Participation = Participation()

    unit = "example"

    def __post_init__(self):
        super().__post_init__()
        if self.sampling not in ("poisson", "none"):
            raise UserError(f"--amplification={self.sampling} must be poisson or none for DP-SGD: correct it.")
        for name in ("num_examples", "batch_size", "steps", "microbatch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be 1 or more: correct it.")

    @property
    def name(self):
        return "Gaussian noise in every step of the clients' training (DP-SGD)"

    @property
    def adjacency(self):
        return (ADD_OR_REMOVE if self.sampling == "poisson" else ZERO_OUT).format(self.unit, self.unit)

    @property
    def sampling_assumption(self):
        batches = (
            f"a batch has each of a client's {self.num_examples:,} examples independently with probability "
            f"{min(1.0, self.batch_size / self.num_examples):.4g} (Poisson)"
            if self.sampling == "poisson"
            else f"a client's {self.num_examples:,} examples are dealt out to batches, each once a pass; no "
            "amplification by sampling"
        )
        return f"{_told(self.participation)}; {batches}"

    def event(self, rounds):
        noise_multiplier = self.noise_multiplier / (2 if self.microbatch_size > 1 else 1)
        one = dp_accounting.GaussianDpEvent(noise_multiplier)
        visits = self.participation.count(rounds)
        if self.sampling == "poisson" and self.batch_size < self.num_examples:
            one = dp_accounting.PoissonSampledDpEvent(self.batch_size / self.num_examples, one)
            return dp_accounting.SelfComposedDpEvent(one, visits * self.steps)
        uses = min(self.steps, math.ceil(self.steps * self.batch_size / self.num_examples))
        return dp_accounting.GaussianDpEvent(noise_multiplier / math.sqrt(visits * uses))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(rounds * self.steps)


def _told(participation: Participation) -> str:
    most = (
        ""
        if participation.max_participations is None
        else f", at most {participation.max_participations} rounds in all"
    )
    if participation.min_separation == 1:
        return f"a client may be in any round{most}"
    return f"a client is in at most one of any {participation.min_separation} consecutive rounds{most}"
