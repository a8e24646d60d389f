"""Skellam noise against exact divergences, against the Gaussian mechanism, and its laws."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scipy import special

from tff_tx.core.errors import UserError
from tff_tx.privacy import skellam_epsilon, skellam_rdp


def exact_divergence(order, shift, variance):
    """Of Skellam noise and the same one shifted, summed over the whole numbers that matter, in logarithms."""
    k = np.arange(-60, 61)

    def log_pmf(k):
        return np.log(special.ive(np.abs(k), variance))  # e^-mu I_k(mu)

    return np.logaddexp.reduce(order * log_pmf(k - shift) + (1 - order) * log_pmf(k)) / (order - 1)


@pytest.mark.parametrize("order", [2, 3, 8])
@pytest.mark.parametrize(("shift", "variance", "at_most"), [(1, 4.0, 2.0), (1, 50.0, 1.1), (3, 30.0, 1.2)])
def test_the_bound_is_above_the_exact_divergence_and_near_it(order, shift, variance, at_most):
    exact, bound = exact_divergence(order, shift, variance), skellam_rdp(order, shift, shift, variance)
    assert exact <= bound <= at_most * exact


def test_by_hand():
    """a = 2, D1 = 3, D2 = 2, mu = 10: 0.4 + min((12 + 18) / 400, 9 / 20)."""
    assert skellam_rdp(2, 3.0, 2.0, 10.0) == pytest.approx(0.475)
    assert skellam_rdp(2, 0.3, 2.0, 0.5) == pytest.approx(8.0 + 0.9)


@pytest.mark.parametrize("participations", [1, 10, 300])
def test_on_a_fine_grid_it_is_the_gaussian_mechanism(participations):
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(2.0), participations)
    gaussian = rdp.RdpAccountant(orders=range(2, 257)).compose(event).get_epsilon(1e-6)
    found = skellam_epsilon(1e6, 1e5, (2e5) ** 2, participations, 1e-6)
    assert gaussian * (1 - 1e-6) <= found <= gaussian * 1.001


def test_coarse_grids_few_shares_and_many_rounds_cost():
    fine = skellam_epsilon(100.0, 10.0, 400.0, 10, 1e-5)
    assert fine < skellam_epsilon(1.0, 1.0, 4.0, 10, 1e-5)
    assert fine < skellam_epsilon(100.0, 10.0, 200.0, 10, 1e-5)
    assert fine < skellam_epsilon(100.0, 10.0, 400.0, 11, 1e-5)
    assert skellam_epsilon(100.0, 10.0, 400.0, 0, 1e-5) == 0
    assert skellam_epsilon(100.0, 10.0, 0.0, 1, 1e-5) == math.inf


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1, 1, 1, 1, 0), "delta=0"),
        ((-1, 1, 1, 1, 0.1), "l1_sensitivity=-1"),
        ((1, math.nan, 1, 1, 0.1), "l2_sensitivity=nan"),
        ((1, 1, -1, 1, 0.1), "variance=-1"),
        ((1, 1, 1, -1, 0.1), "participations=-1"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, named):
    with pytest.raises(UserError, match=named):
        skellam_epsilon(*arguments)
