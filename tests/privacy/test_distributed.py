"""Shares of discrete noise against exact divergences, against the Gaussian mechanism, and their laws."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import special

from tests.privacy.plans import plan
from tff_tx.core.errors import UserError
from tff_tx.privacy import Distributed, Gaussian, Participation, discrete_gaussian_rdp, epsilon, skellam_rdp


def divergence(order, shift, log_pmf, far):
    """Of noise and the same one shifted, summed over the whole numbers that matter, in logarithms."""
    k = np.arange(-far, far + 1)
    return np.logaddexp.reduce(order * log_pmf(k - shift) + (1 - order) * log_pmf(k)) / (order - 1)


def exact_divergence(order, shift, variance):
    """Of Skellam noise: e^-mu I_k(mu)."""
    return divergence(order, shift, lambda k: np.log(special.ive(np.abs(k), variance)), 60)


def sum_of_discrete_gaussians(shares, share_variance, far=300):
    """Logarithms of the probabilities of their sum, by convolution."""
    k = np.arange(-far, far + 1)
    one = np.exp(-(k**2) / (2 * share_variance))
    one = total = one / one.sum()
    for _ in range(shares - 1):
        total = np.convolve(total, one)[far:-far]
    return lambda k: np.log(total[k + far])


@pytest.mark.parametrize("order", [2, 3, 8])
@pytest.mark.parametrize(("shift", "variance", "at_most"), [(1, 4.0, 2.0), (1, 50.0, 1.1), (3, 30.0, 1.2)])
def test_the_bound_is_above_the_exact_divergence_and_near_it(order, shift, variance, at_most):
    exact, bound = exact_divergence(order, shift, variance), skellam_rdp(order, shift, shift, variance)
    assert exact <= bound <= at_most * exact


def test_by_hand():
    """a = 2, D1 = 3, D2 = 2, mu = 10: 0.4 + min((12 + 18) / 400, 9 / 20)."""
    assert skellam_rdp(2, 3.0, 2.0, 10.0) == pytest.approx(0.475)
    assert skellam_rdp(2, 0.3, 2.0, 0.5) == pytest.approx(8.0 + 0.9)


@pytest.mark.parametrize("order", [2, 3, 8])
@pytest.mark.parametrize(("shares", "share_variance", "shift"), [(1, 4.0, 1), (3, 1.0, 1), (5, 20.0, 3), (2, 0.3, 1)])
def test_discrete_gaussians_are_bounded_likewise(order, shares, share_variance, shift):
    """Of one share the bound is exact but for the grid; of shares whose sum is no such noise it is above."""
    far = math.ceil(12 * math.sqrt(shares * share_variance))
    exact = divergence(order, shift, sum_of_discrete_gaussians(shares, share_variance), far)
    bound = discrete_gaussian_rdp(order, shift, shift, share_variance, shares, 1)
    assert exact <= bound * (1 + 1e-9)
    if share_variance >= 1:
        assert bound <= 1.05 * exact


def test_discrete_gaussians_by_hand():
    """One share has tau = 0; of two with s^2 = 0.1, tau = 10 exp(-0.1 pi^2), and each of three bounds can be least."""
    assert discrete_gaussian_rdp(2, 3.0, 2.0, 10.0, 1, 5) == pytest.approx(0.4)
    tau = 10 * math.exp(-0.1 * math.pi**2)
    expected = min(2 * 1 / 0.2 / 2 + tau, 1 / 0.2 + 2 * tau / math.sqrt(0.2) + tau**2, (1 / math.sqrt(0.2) + tau) ** 2)
    assert discrete_gaussian_rdp(2, 1.0, 1.0, 0.1, 2, 1) == pytest.approx(expected)


SKELLAM = Distributed(2.0, "skellam", 1.0, 100, 70, 2**14, 22)
BOTH = pytest.mark.parametrize("noise", ["skellam", "discrete_gaussian"])


@BOTH
@pytest.mark.parametrize("rounds", [1, 10, 30])
def test_on_a_fine_grid_it_is_the_gaussian_mechanism(noise, rounds):
    """Whose best order need not be a whole number."""
    found = epsilon(dataclasses.replace(SKELLAM, noise=noise), rounds, 1e-6)
    assert 1 <= found / epsilon(Gaussian(2.0), rounds, 1e-6, "rdp") <= 1.02


@BOTH
def test_coarse_grids_and_many_rounds_cost_and_unknown_shares_are_what_counts(noise):
    mechanism = dataclasses.replace(SKELLAM, noise=noise)
    fine = epsilon(mechanism, 10, 1e-5)
    assert fine < epsilon(dataclasses.replace(mechanism, bits=10), 10, 1e-5)
    assert fine < epsilon(mechanism, 11, 1e-5)
    assert epsilon(mechanism.with_noise(0.0), 1, 1e-5) == math.inf
    assert epsilon(dataclasses.replace(mechanism, participation=Participation(10)), 10, 1e-5) < fine / 2
    assert mechanism.share_variance * 70 == pytest.approx((2 * mechanism.grid.scale) ** 2)
    assert mechanism.sum_stddev(4) == pytest.approx(2 * 2 * math.sqrt(100 / 70))


@BOTH
def test_fewer_shares_are_not_private_enough(noise):
    """The law that the accounting stands on: noise of one share less has a larger epsilon."""
    mechanism = dataclasses.replace(SKELLAM, noise=noise, clients=10, unknown=7, bits=16)
    short = mechanism.with_noise(2.0 * math.sqrt(6 / 7))
    assert epsilon(short, 5, 1e-5) > 1.05 * epsilon(mechanism, 5, 1e-5)


def test_privacy_loss_distributions_do_not_cover_it():
    with pytest.raises(UserError, match="accountant=pld does not cover shares"):
        epsilon(SKELLAM, 1, 1e-5, "pld")


SETTINGS = {
    "privacy.mechanism": "skellam",
    "aggregation.secure": "masks",
    "cohort.clients_per_round": 10,
    "privacy.noise_multiplier": 1.5,
}


def test_a_plan_accounts_for_survivors_less_colluders():
    """Of 10, 1 may drop out and 2 collude."""
    found = plan(SETTINGS)
    assert (found.ledger.mechanism.unknown, found.ledger.mechanism.clients) == (7, 10)
    statement = found.statement()
    assert "without 3 of 10 shares" in statement
    assert "1.2 times the accounted standard deviation" in statement
    assert "Renyi differential privacy" in statement
    assert "32-bit floating point" not in statement
    assert "that nobody stored" in statement
    assert "no protection from those who know it" in plan({**SETTINGS, "privacy.noise_seed": 1}).statement()
    assert "Sums were taken in the open" in plan({**SETTINGS, "aggregation.secure": "arithmetic"}).statement()
    federation = plan({**SETTINGS, "privacy.population": 1000}).ledger.mechanism
    assert (federation.unknown, federation.clients) == (70, 100)


def test_a_target_is_found_and_what_leaves_nothing_is_rejected():
    targeted = {**SETTINGS, "privacy.noise_multiplier": None, "privacy.target_epsilon": 4.0, "run.rounds": 5}
    found = plan(targeted)
    assert 3.98 < found.ledger.epsilon(5) <= 4.0
    with pytest.raises(UserError, match="leave none of 10 clients"):
        plan({**SETTINGS, "aggregation.secure_colluding": 0.9})
    with pytest.raises(UserError, match="aggregation.secure_bits=3: 3 bits do not hold the sum of 10 clients"):
        plan({**SETTINGS, "aggregation.secure_bits": 3})
