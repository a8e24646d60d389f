"""The price of privacy: signal-to-noise ratio of the noised updates, and the cohort that it would take."""

from __future__ import annotations

import dataclasses
import math

import scipy.optimize

from tff_tx.privacy.accounting import Ledger, epsilon
from tff_tx.privacy.local_mechanisms import LocalGaussian
from tff_tx.privacy.mechanisms import Gaussian


@dataclasses.dataclass(frozen=True)
class Price:
    """Signal-to-noise ratio of the sum of all updates of a run.

    Attributes:
      signal_to_noise: Norm of the sum of all updates over that of all its noise, if every client's update has the clip
        norm and all point in the same direction: an upper bound.
      first_round: The same in the first round alone.
      cohort_needed: The cohort with a `signal_to_noise` of 1 at the same epsilon; None if the population is too small.
    """

    signal_to_noise: float
    first_round: float
    cohort_needed: int | None


def price(ledger: Ledger, rounds: int, cohort: float, dimension: int) -> Price:
    """The price of privacy of a run.

    The noise of the sum over the rounds has `Mechanism.sum_stddev` clip norms as standard deviation of each number, and
    so sqrt(dimension) times that as norm; the sum of the updates has at most cohort * rounds clip norms.

    `cohort` is the number of clients a round, with DP-SGD that of examples a batch, `dimension` of trained weights.
    """
    mechanism = ledger.mechanism
    if mechanism.noise_multiplier == 0:
        return Price(math.inf, math.inf, 1)
    total, first = (_signal_to_noise(mechanism, r, cohort, dimension) for r in (rounds, 1))
    return Price(total, first, _needed(ledger, rounds, cohort, dimension, total))


def _signal_to_noise(mechanism, rounds, cohort, dimension):
    return cohort * rounds * mechanism.steps / (mechanism.sum_stddev(rounds) * math.sqrt(dimension))


def _needed(ledger, rounds, cohort, dimension, ratio):
    mechanism = ledger.mechanism
    if isinstance(mechanism, LocalGaussian):
        # Each client brings noise of its own, so the ratio grows with the root of their number only.
        return _whole(cohort / ratio / ratio if ratio else math.inf)
    if not isinstance(mechanism, Gaussian) or mechanism.sampling == "none":
        return _whole(cohort / ratio if ratio else math.inf)
    # Larger cohorts of the same population are amplified less, and so need more noise. How much more is found with the
    # fast formula, RDP with Poisson sampling, for all.
    halved = 2 if mechanism.sampling == "without_replacement" else 1
    poisson = dataclasses.replace(mechanism, sampling="poisson")

    def epsilon_of(clients, noise_multiplier):
        larger = dataclasses.replace(poisson, clients_per_round=clients, noise_multiplier=noise_multiplier / halved)
        return epsilon(larger, rounds, ledger.delta, "rdp")

    target = epsilon_of(mechanism.clients_per_round, mechanism.noise_multiplier)
    if not 0 < target < math.inf:
        return None

    def log_excess(log_clients):
        clients = min(math.exp(log_clients), mechanism.population)
        equally_loud = _signal_to_noise(mechanism.with_noise(1.0), rounds, clients, dimension)
        return math.log(min(max(epsilon_of(clients, equally_loud), 1e-300), 1e300)) - math.log(target)

    most = math.log(mechanism.population)
    if log_excess(most) > 0:
        return None
    if log_excess(0.0) <= 0:
        return 1
    return _whole(math.exp(scipy.optimize.brentq(log_excess, 0.0, most, xtol=5e-3)))


def _whole(cohort):
    return math.ceil(cohort) if math.isfinite(cohort) else None
