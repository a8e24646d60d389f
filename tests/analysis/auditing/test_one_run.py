"""The lower bound on epsilon: closed forms, mechanisms whose epsilon is known, and that it holds as often as stated."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.analysis.auditing.gaussian import gaussian_epsilon
from tff_tx.analysis.auditing import one_run


@pytest.mark.parametrize(("guesses", "confidence"), [(10, 0.95), (100, 0.95), (1000, 0.99)])
def test_all_guesses_right_has_a_closed_form(guesses, confidence):
    """q^r = 1 - confidence, with q = e^eps / (1 + e^eps)."""
    q = (1 - confidence) ** (1 / guesses)
    found = one_run.epsilon_lower_bound(guesses, guesses, guesses, 0.0, confidence)
    assert found == pytest.approx(math.log(q / (1 - q)), abs=1e-3)


def test_pure_dp_is_the_binomial_tail_summed_by_hand():
    q = math.e / (1 + math.e)
    tail = sum(math.comb(20, k) * q**k * (1 - q) ** (20 - k) for k in range(17, 21))
    assert one_run.p_value(50, 20, 17, 1.0, 0.0) == pytest.approx(tail, rel=1e-12)


def test_deltas_part_is_the_theorems_maximum_by_hand():
    m, r, v, epsilon, delta = 30, 12, 10, 0.7, 1e-3
    q = math.exp(epsilon) / (1 + math.exp(epsilon))

    def mass(low, high):
        return sum(math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(max(low, 0), high))

    alpha = max(mass(v - i, v) / i for i in range(1, m + 1))
    expected = mass(v, r + 1) + 2 * m * delta * alpha
    assert one_run.p_value(m, r, v, epsilon, delta) == pytest.approx(expected, rel=1e-10)


def test_it_grows_with_what_is_right_and_shrinks_with_delta_and_confidence():
    def bound(v, delta=1e-6, confidence=0.95):
        return one_run.epsilon_lower_bound(1000, 200, v, delta, confidence)

    assert bound(100) == 0.0
    assert 0 < bound(140) < bound(170) < bound(200) < one_run.MAX_EPSILON
    assert bound(170, 1e-2) < bound(170, 1e-4) <= bound(170, 0.0)
    assert bound(170, confidence=0.999) < bound(170)


def randomized_response(rng, truth, epsilon):
    honest = rng.random(truth.shape) < math.exp(epsilon) / (1 + math.exp(epsilon))
    return np.where(honest, truth, ~truth)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_of_randomized_response_it_is_tight_and_wrong_no_oftener_than_stated(epsilon):
    """The mechanism that makes the theorem an equality: m bits, each told truthfully with e^eps / (1 + e^eps)."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        truth = rng.random(1000) < 0.5
        correct = int((randomized_response(rng, truth, epsilon) == truth).sum())
        found.append(one_run.epsilon_lower_bound(1000, 1000, correct, 0.0, 0.95))
    wrong = np.sum(np.array(found) > epsilon)
    assert wrong <= stats.binom.ppf(0.999, 400, 0.05)
    assert wrong >= stats.binom.ppf(0.001, 400, 0.045)
    assert np.median(found) > 0.7 * epsilon


@pytest.mark.slow
@pytest.mark.parametrize(("guesses", "audits"), [(None, 40), (None, 200), (500, 200)])
def test_of_gaussian_noise_it_stays_below_the_exact_epsilon(guesses, audits):
    """Choosing the best of several numbers of guesses is paid for: the bound holds all the same."""
    rng, sigma, delta = np.random.default_rng(1), 0.7, 1e-5
    exact = gaussian_epsilon(sigma, delta)
    found = []
    for _ in range(audits):
        was_in = rng.random(1000) < 0.5
        found.append(one_run.audit(was_in + sigma * rng.standard_normal(1000), was_in, delta, 0.95, guesses).epsilon)
    assert np.mean(np.array(found) > exact) <= 0.05
    assert 1.0 < np.median(found) < exact


def test_noise_alone_bounds_nothing():
    rng, zero = np.random.default_rng(2), 0
    for _ in range(200):
        was_in = rng.random(500) < 0.5
        zero += one_run.audit(rng.standard_normal(500), was_in, 1e-5).epsilon == 0.0
    assert zero >= 185


def test_guesses_are_the_highest_and_the_lowest():
    scores, was_in = [0.1, 0.9, 0.5, -1.0, 0.4], [False, True, True, True, False]
    assert one_run.guess(scores, was_in, 1, 1) == 1
    assert one_run.guess(scores, was_in, 2, 2) == 3
    assert one_run.guess(scores, was_in, 0, 2) == 1


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="6 correct of 5 guesses"):
        one_run.p_value(10, 5, 6, 1.0, 0.0)
    with pytest.raises(ValueError, match="3 scores of 2 canaries"):
        one_run.audit([1.0, 2.0, 3.0], [True, False], 0.0)
