"""Accounting: epsilon of a mechanism, and the noise of a target epsilon.

Everything composed of sampled Gaussians goes to the accountants of `dp_accounting`: privacy loss distributions (PLD,
Koskela et al. 2020, https://arxiv.org/abs/1906.03049; Doroshenko et al. 2022, https://arxiv.org/abs/2207.04380) or
Renyi differential privacy (RDP, Mironov 2017, https://arxiv.org/abs/1702.07476). A single Gaussian release (no
sampling, trees, matrix factorization, local noise) is described by one number, its zCDP parameter
rho = (sensitivity / standard deviation)^2 / 2, and has an exact privacy profile in closed form.
"""

from __future__ import annotations

import functools
import math

import dp_accounting
import numpy as np
import scipy.optimize
from dp_accounting import pld, rdp

from tff_tx.config.privacy import ACCOUNTANTS
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.mechanism import Mechanism

_REPLACE_ONE = dp_accounting.NeighboringRelation.REPLACE_ONE
# Without replacement an order takes time with its square, up to 256; those in between are interpolations anyway.
_FIXED_SIZE_ORDERS = (*range(2, 33), 40, 48, 64, 128, 512, 1024)
_MAX_EPSILON = 1e5
# Distributions of larger privacy losses would take gigabytes, and nobody cares by how much a guarantee is void; of more
# rounds, minutes. RDP is used there.
_MAX_PLD_EPSILON = 1e3
_MAX_PLD_ROUNDS = 100_000
# With less noise epsilon is beyond `_MAX_EPSILON` whatever the sampling; more, whose powers would be no numbers, counts
# as the most, which only raises epsilon.
_LEAST_NOISE, _MOST_NOISE = 1e-3, 1e50
# Rounding error of the divergences of one round.
_RDP_ERROR = 1e-15


def gaussian_delta(rho: float, epsilon: float) -> float:
    """The least delta of a Gaussian mechanism for an epsilon, exact.

    Balle and Wang, "Improving the Gaussian mechanism for differential privacy", 2018,
    https://arxiv.org/abs/1805.06530, Theorem 8, by `dp_accounting`.

    Args:
      rho: zCDP of the mechanism: (sensitivity / standard deviation)^2 / 2, 0 or more.
      epsilon: 0 or more.
    """
    if rho == 0:
        return 0.0
    if math.isinf(rho):
        return 1.0
    loss = pld.privacy_loss_mechanism.GaussianPrivacyLoss((2 * rho) ** -0.5)
    return max(0.0, float(loss.get_delta_for_epsilon(epsilon)))


def gaussian_epsilon(rho: float, delta: float) -> float:
    """The least epsilon of a Gaussian mechanism for a delta, exact: the inverse of `gaussian_delta`."""
    check_delta(delta)
    if gaussian_delta(rho, 0.0) <= delta:
        return 0.0
    # Holds for every mechanism of this zCDP (Bun and Steinke 2016, Proposition 1.3), so it is above the answer.
    most = rho + 2 * math.sqrt(rho * -math.log(delta))
    if most > _MAX_EPSILON:
        return math.inf

    def log_gap(epsilon):
        return math.log(max(gaussian_delta(rho, epsilon), math.nextafter(0.0, 1.0))) - math.log(delta)

    return float(scipy.optimize.brentq(log_gap, 0.0, most, xtol=1e-12, rtol=1e-13))


def default_delta(population: int, unit: str = "client") -> float:
    """Default delta for a population, population^-1.1: well below one over its size; 1e-5 at most for examples."""
    return min({"client": 0.1, "example": 1e-5}[unit], float(population) ** -1.1)


def delta_for(population: int, target_delta: float | None = None, unit: str = "client") -> float:
    """Delta of a guarantee for a population of clients or examples: the target, or the default.

    Raises:
      UserError: If it would allow publishing one of them.
    """
    default = default_delta(population, unit)
    if target_delta is None:
        return default
    if target_delta * population > 1:
        raise UserError(
            f"{setting('privacy.target_delta')}={target_delta} is more than one over the {population} {unit}s, which "
            f"would allow publishing all data of one of them: lower it, for example to {default:.1g}."
        )
    return target_delta


def rho(mechanism: Mechanism, rounds: int) -> float | None:
    """The zCDP parameter of what is one Gaussian release; None for sampled mechanisms."""
    event = _event(mechanism, rounds)
    if not isinstance(event, dp_accounting.GaussianDpEvent):
        return None
    return math.inf if event.noise_multiplier == 0 else event.noise_multiplier**-2 / 2


def epsilon(mechanism: Mechanism, rounds: int, delta: float, accountant: str | None = None) -> float:
    """Upper bound on epsilon after `rounds` rounds, infinite without noise.

    Args:
      mechanism: The mechanism.
      rounds: Number of rounds, 0 or more.
      delta: Above 0 and below 1.
      accountant: One of `tff_tx.config.privacy.ACCOUNTANTS`; None: the tighter of those that cover the mechanism.

    Raises:
      UserError: If a value is out of range, or the accountant does not cover the mechanism.
    """
    accountant = accountant_for(mechanism, accountant)
    check_delta(delta)
    if rounds < 0:
        raise UserError(f"rounds={rounds}: must be at least 0.")
    if rounds == 0:
        return 0.0
    if mechanism.noise_multiplier < _LEAST_NOISE:
        return math.inf
    if _is_by_rdp(mechanism):
        orders, by_order = mechanism.rdp(rounds)
        return float(rdp.compute_epsilon(orders, np.maximum(by_order, _RDP_ERROR), delta)[0])
    event = _event(mechanism, rounds)
    if isinstance(event, dp_accounting.GaussianDpEvent):
        if accountant == "rdp":
            return _rdp_epsilon(event, delta)
        return gaussian_epsilon(event.noise_multiplier**-2 / 2, delta)
    by_rdp = _rdp_epsilon(event, delta)
    if accountant == "pld":
        return _pld_epsilon(event, delta, by_rdp)
    # Known bounds for sampling without replacement can be above those without any sampling, which hold all the same.
    unsampled = event.event.event.noise_multiplier
    return min(by_rdp, gaussian_epsilon(rounds * unsampled**-2 / 2, delta)) if _is_fixed_size(event) else by_rdp


def accountant_for(mechanism: Mechanism, accountant: str | None = None) -> str:
    """The accountant that `epsilon` uses.

    Raises:
      UserError: If the requested one does not cover the mechanism.
    """
    if accountant not in (None, *ACCOUNTANTS):
        raise UserError(f"accountant={accountant}: must be one of {', '.join(ACCOUNTANTS)}.")
    if _is_by_rdp(mechanism):
        if accountant == "pld":
            raise UserError(
                f"{setting('privacy.accountant')}=pld does not cover shares of discrete noise: use "
                f"{setting('privacy.accountant')}=rdp."
            )
        return "rdp"
    if not _is_fixed_size(mechanism.event(1)):
        return accountant or "pld"
    if accountant == "pld":
        raise UserError(
            f"{setting('privacy.accountant')}=pld does not cover sampling without replacement: use "
            f"{setting('privacy.accountant')}=rdp, or {setting('cohort.sampling')}=poisson."
        )
    return "rdp"


def _event(mechanism, rounds):
    noise_multiplier = mechanism.noise_multiplier
    if noise_multiplier < _LEAST_NOISE:
        return mechanism.with_noise(0.0).event(rounds)
    return mechanism.with_noise(min(noise_multiplier, _MOST_NOISE)).event(rounds)


def _is_by_rdp(mechanism):
    return isinstance(mechanism.event(1), dp_accounting.UnsupportedDpEvent)


def _is_fixed_size(event):
    return isinstance(getattr(event, "event", None), dp_accounting.SampledWithoutReplacementDpEvent)


def _rdp_epsilon(event, delta):
    one, count = (event.event, event.count) if isinstance(event, dp_accounting.SelfComposedDpEvent) else (event, 1)
    orders, by_order = _rdp_of_one(one, _is_fixed_size(event))
    by_order = np.maximum(by_order, _RDP_ERROR)
    return float(rdp.compute_epsilon(orders, count * by_order, delta)[0])


@functools.lru_cache(maxsize=256)
def _rdp_of_one(event, fixed_size):
    if fixed_size:
        with np.errstate(divide="ignore"):  # logarithms of differences that much noise rounds to 0
            accountant = rdp.RdpAccountant(_FIXED_SIZE_ORDERS, _REPLACE_ONE).compose(event)
    else:
        try:
            accountant = rdp.RdpAccountant().compose(event)
        except ValueError:  # of much noise, the alternating series of fractional orders cancel
            accountant = rdp.RdpAccountant(_FIXED_SIZE_ORDERS).compose(event)
    return accountant.orders, accountant.rdp


def _pld_epsilon(event, delta, by_rdp):
    if by_rdp > _MAX_PLD_EPSILON or event.count > _MAX_PLD_ROUNDS:
        return by_rdp
    # Steps in which privacy losses are rounded up: a round's share of time should not be the accountant's.
    interval = next(step for step, most in ((1e-4, 1.0), (1e-3, 100.0), (1e-2, _MAX_PLD_EPSILON)) if by_rdp <= most)
    with np.errstate(over="ignore"):  # of losses whose exponential is no number; RDP bounds them
        found = _pld_of_one(event.event, interval).self_compose(event.count).get_epsilon_for_delta(delta)
    # Both hold, and the one is in steps of its interval.
    return min(float(found), by_rdp)


@functools.lru_cache(maxsize=16)
def _pld_of_one(event, interval):
    build = functools.partial(
        pld.privacy_loss_distribution.from_gaussian_mechanism,
        standard_deviation=event.event.noise_multiplier,
        sampling_prob=event.sampling_probability,
        value_discretization_interval=interval,
    )
    try:
        return build()
    except ValueError:  # of little noise, deltas that are alike differ by their rounding, and then they do not decrease
        return build(use_connect_dots=False)  # which rounds losses up, by an interval at most


def find_noise_multiplier(
    mechanism: Mechanism, rounds: int, target_epsilon: float, delta: float, accountant: str | None = None
) -> float:
    """Least noise multiplier with which `rounds` rounds stay within an epsilon.

    Args:
      mechanism: The mechanism; its own noise multiplier is ignored.
      rounds: Number of rounds, 1 or more.
      target_epsilon: Above 0; infinity asks for no noise.
      delta: Above 0 and below 1.
      accountant: As for `epsilon`.

    Returns:
      Within a thousandth, relatively, above the least.

    Raises:
      UserError: If a value is out of range, or no noise will do.
    """
    if not target_epsilon > 0:
        raise UserError(f"{setting('privacy.target_epsilon')}={target_epsilon}: must be above 0.")
    if target_epsilon == math.inf:
        return 0.0
    if rounds < 1:
        raise UserError(f"rounds={rounds}: must be at least 1.")
    accountant = accountant_for(mechanism.with_noise(1.0), accountant)
    check_delta(delta)

    def excess(log_noise):
        found = epsilon(mechanism.with_noise(math.exp(log_noise)), rounds, delta, accountant)
        return math.log(max(found, 1e-9) / target_epsilon) if math.isfinite(found) else 50.0

    low, high = _bracket(excess, target_epsilon)
    root = scipy.optimize.brentq(excess, low, high, xtol=2e-4, rtol=1e-12)
    while excess(root) > 0:
        root += 2e-4
    return math.exp(root)


def _bracket(excess, target_epsilon):
    low = high = 0.0
    step = math.log(4.0)
    if excess(0.0) > 0:
        while excess(high := high + step) > 0:
            if high > 40:
                raise UserError(
                    f"{setting('privacy.target_epsilon')}={target_epsilon} is out of reach of any noise: raise it, or "
                    f"{setting('privacy.target_delta')}."
                )
    else:
        while excess(low := low - step) <= 0:
            pass
    return low, high


class Ledger:
    """Epsilon of a run, round by round.

    A function of the number of rounds alone, so that a resumed run has the same figures. Values are cached.

    Args:
      mechanism: The mechanism.
      delta: Above 0 and below 1.
      accountant: As for `epsilon`.

    Raises:
      UserError: If a value is out of range, or the accountant does not cover the mechanism.
    """

    def __init__(self, mechanism: Mechanism, delta: float, accountant: str | None = None):
        check_delta(delta)
        self.mechanism, self.delta = mechanism, float(delta)
        self.accountant = accountant_for(mechanism, accountant)
        self._known = {}

    def epsilon(self, rounds: int) -> float:
        """Epsilon after `rounds` rounds, 0 or more; infinite without noise. Non-decreasing in rounds."""
        if rounds not in self._known:
            self._known[rounds] = epsilon(self.mechanism, rounds, self.delta, self.accountant)
        return self._known[rounds]

    def rounds_until(self, target_epsilon: float, at_most: int) -> int:
        """The largest number of rounds, `at_most` at most, that stays within an epsilon; 0 if one round exceeds it."""
        within, beyond = 0, at_most + 1
        while beyond - within > 1:
            middle = (within + beyond) // 2
            if self.epsilon(middle) <= target_epsilon:
                within = middle
            else:
                beyond = middle
        return within

    @property
    def accountant_name(self) -> str:
        """Name of the accountant in statements."""
        event = self.mechanism.event(1)
        if self.accountant == "rdp":
            return "Renyi differential privacy (RDP)"
        if isinstance(event, dp_accounting.GaussianDpEvent):
            return "exact privacy profile of the Gaussian mechanism (zCDP parameter rho; Balle and Wang 2018)"
        return "privacy loss distributions (PLD), or Renyi differential privacy (RDP) where its bound is smaller"


def check_delta(delta: float) -> None:
    """Raises a UserError if delta is not above 0 and below 1."""
    if not 0 < delta < 1:
        raise UserError(f"{setting('privacy.target_delta')}={delta}: must be above 0 and below 1.")
