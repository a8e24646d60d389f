"""Mechanisms of participants: shares of discrete noise that each adds to its whole numbers before a secure sum.

Noise is accounted as what is left of it in the worst case: of the fewest clients whose sum is taken, without those who
collude with the server and tell it their shares. More noise than that, of clients that report after all, is processing
of what is accounted. Both bounds are by Renyi divergences of whole vectors; `dp_accounting` has neither mechanism, and
converts them.
"""

from __future__ import annotations

import dataclasses
import math

import dp_accounting
import numpy as np

from tff_tx.config import RunConfig
from tff_tx.config.run_config import describe
from tff_tx.core.errors import UserError, setting
from tff_tx.core.integer_grid import IntegerGrid, rotated_size
from tff_tx.core.threat import Threat
from tff_tx.privacy.mechanism import Mechanism, Participation

# The bound on Skellam noise is proven for whole orders; large epsilons, whose best order is below 3, come out a little
# larger for it.
_ORDERS = np.array([*range(2, 257), 320, 384, 512, 768, 1024, 2048, 4096])
_NAMES = {
    "skellam": "Skellam noise (Agarwal et al. 2021)",
    "discrete_gaussian": "discrete Gaussian noise (Kairouz et al. 2021)",
}


def skellam_rdp(order: float, l1_sensitivity: float, l2_sensitivity: float, variance: float) -> float:
    """Renyi divergence at most, in nats, of a vector of whole numbers with Skellam noise.

    Agarwal, Kairouz and Liu 2021, https://arxiv.org/abs/2110.04995, Corollary 3.6:
    a D2^2 / (2 mu) + min(((2 a - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu)). Sums of Skellam noises are Skellam noise.

    Args:
      order: a, a whole number, 2 or more.
      l1_sensitivity: D1, by how much a client changes the vector at most, in L1 norm, 0 or more.
      l2_sensitivity: D2, the same in L2 norm.
      variance: mu, of each number of the noise, above 0.
    """
    gaussian = order * l2_sensitivity**2 / (2 * variance)
    excess = ((2 * order - 1) * l2_sensitivity**2 + 6 * l1_sensitivity) / (4 * variance**2)
    return gaussian + min(excess, 3 * l1_sensitivity / (2 * variance))


def discrete_gaussian_rdp(
    order: float, l1_sensitivity: float, l2_sensitivity: float, share_variance: float, shares: int, size: int
) -> float:
    """Renyi divergence at most, in nats, of a vector with the sum of several discrete Gaussian noises.

    Kairouz, Liu and Steinke 2021, https://arxiv.org/abs/2102.06387, Proposition 14, with s^2 of all shares together:
    the least of a D2^2 / (2 s^2) + tau d, a / 2 (D2^2 / s^2 + 2 tau D1 / s + tau^2 d) and a / 2 (D2 / s +
    tau sqrt(d))^2. tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 s_1^2 k / (k + 1)) bounds how far the sum of n noises of
    variance parameter s_1^2 is from such a noise itself (Theorem 1).

    Args:
      order: a, above 1.
      l1_sensitivity: D1, as of `skellam_rdp`.
      l2_sensitivity: D2.
      share_variance: s_1^2, above 0.
      shares: n, 1 or more.
      size: d, numbers of the vector.
    """
    k = np.arange(1, shares)
    tau = 10 * float(np.exp(-2 * math.pi**2 * share_variance * k / (k + 1)).sum())
    l1, l2 = (each / math.sqrt(shares * share_variance) for each in (l1_sensitivity, l2_sensitivity))
    return min(
        order * l2**2 / 2 + tau * size,
        order / 2 * (l2**2 + 2 * l1 * tau + tau**2 * size),
        order / 2 * (l2 + tau * math.sqrt(size)) ** 2,
    )


@dataclasses.dataclass(frozen=True)
class Distributed(Mechanism):
    """Discrete noise by shares under secure sums, in every round.

    Adjacency: zero-out: with or without its data a client takes part in the same rounds, and adds its share. Cohorts
    that are drawn at random amplify nothing: noise that comes and goes with clients is outside of what is proven of
    sampling.

    Attributes:
      noise_multiplier: Standard deviation, in clip norms, of the noise that the `unknown` shares have together.
      noise: "skellam" or "discrete_gaussian".
      clip: The L2 norm that updates are clipped to.
      clients: n, that a round asks.
      unknown: Fewest shares of a sum that the server and those who collude with it do not know, 1 to n.
      size: Numbers of an update after its rotation.
      bits: Of a number of the sum.
      participation: Rounds a client may take part in.
      sharers: Who adds a share: participants of a federation, however many clients they add up; None: the clients.
    """

    noise: str
    clip: float
    clients: int
    unknown: int
    size: int
    bits: int
    participation: Participation = Participation()
    sharers: int | None = None

    setting = (
        "distributed: neither the server nor other clients are trusted with an update; each client clips and adds a "
        "share of the noise before a secure sum, which is all that the server sees"
    )
    output = "the sums of all rounds, and so their models, the last one included"

    @property
    def name(self):
        return (
            f"{_NAMES[self.noise]} by shares of the {self.parties}, independent in every round, modulo 2^{self.bits}; "
            f"accounted with {self.unknown:,} of {self.shares:,} shares"
        )

    @property
    def parties(self) -> str:
        """Who adds a share, in words."""
        return "clients" if self.sharers is None else "participants"

    @property
    def shares(self) -> int:
        """Number of shares of a round."""
        return self.clients if self.sharers is None else self.sharers

    @property
    def full_noise_multiplier(self) -> float:
        """Of the sum of all shares, which has more noise than is accounted."""
        return self.noise_multiplier * math.sqrt(self.shares / self.unknown)

    @property
    def grid(self) -> IntegerGrid:
        """Of the clients; ValueError: the bits do not hold a sum."""
        return IntegerGrid.for_sums(self.clip, self.full_noise_multiplier, self.clients, self.size, self.bits)

    @property
    def share_variance(self) -> float:
        """Of one share, in steps of the grid: the parameter s^2 of discrete Gaussian noise."""
        return (self.noise_multiplier * self.clip * self.grid.scale) ** 2 / self.unknown

    def event(self, rounds):
        return dp_accounting.UnsupportedDpEvent()

    def rdp(self, rounds):
        grid, variance = self.grid, self.share_variance
        sensitivities = grid.l1_sensitivity, grid.l2_sensitivity
        if self.noise == "skellam":
            one = [skellam_rdp(order, *sensitivities, self.unknown * variance) for order in _ORDERS]
        else:
            one = [discrete_gaussian_rdp(a, *sensitivities, variance, self.unknown, self.size) for a in _ORDERS]
        return _ORDERS, self.participation.count(rounds) * np.array(one)

    def sum_stddev(self, rounds):
        return self.full_noise_multiplier * math.sqrt(rounds)


def distributed_mechanism(
    config: RunConfig, cohort: float, dimension: int, participation: Participation
) -> Distributed:
    """The mechanism of a configuration with a noise multiplier of 1, for cohorts of a federation.

    Raises:
      UserError: If all that survive may collude, or the bits do not hold a sum.
    """
    settings, clients = config.aggregation, int(cohort)
    threat = Threat(settings.secure_colluding, settings.secure_dropping)
    sharers = min(clients, len(config.data.silos)) if config.engine.name == "federation" else None
    shares = clients if sharers is None else sharers
    unknown = threat.survivors(shares) - threat.colluders(shares)
    if unknown < 1:
        raise UserError(
            f"{describe(config, 'aggregation.secure_colluding')} and "
            f"{describe(config, 'aggregation.secure_dropping')} leave none of {shares} "
            f"{'clients' if sharers is None else 'participants'} whose noise hides anything: lower them."
        )
    name, clip = config.privacy.mechanism, config.privacy.clip_norm
    size, bits = rotated_size(dimension), settings.secure_bits
    found = Distributed(1.0, name, clip, clients, unknown, size, bits, participation, sharers)
    try:
        found.grid  # noqa: B018 -- checks the bits
    except ValueError as error:
        raise UserError(
            f"{describe(config, 'aggregation.secure_bits')}: {error} Raise it, or lower "
            f"{setting('cohort.clients_per_round')}."
        ) from error
    return found


def notes(config: RunConfig, mechanism: Distributed) -> list[str]:
    """Paragraphs of the statement on where the noise came from, and what it withstands."""
    parties, lost = mechanism.parties, mechanism.shares - mechanism.unknown
    more = math.sqrt(mechanism.shares / mechanism.unknown)
    found = [
        f"The guarantee is against the server together with colluding {parties}, of which there may be "
        f"{config.aggregation.secure_colluding:g} of a cohort, if {config.aggregation.secure_dropping:g} of it drop "
        f"out: it is accounted without {lost:,} of {mechanism.shares:,} shares of noise. Rounds that lost more were "
        f"not released; with all shares the noise has {more:.3g} times the accounted standard deviation."
    ]
    if config.aggregation.secure == "arithmetic":
        found.append(
            "Sums were taken in the open: the guarantee is that of a federation with the protocol of secure sums."
        )
    if mechanism.sharers is not None:
        found.append(
            "Each participant refuses sums over fewer than that, and counts on its disk in how many sums each of its "
            "clients may have been: in more than are accounted it takes no part, whatever the coordinator asks for. A "
            "participant that holds several clients protects them against all others, and not against itself."
        )
    if config.privacy.noise_seed is None:
        found.append(
            f"Each of the {parties} drew its share from AES-256 in counter mode, with a key of the operating system's "
            "randomness that nobody stored."
        )
    else:
        found.append(
            f"The noise was drawn from the seed {config.privacy.noise_seed}, which is in `config.json`: **there is no "
            "protection from those who know it.**"
        )
    return found
