"""The sparse histogram against its definition, integrated, counted and bounded."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from tff_tx.core.errors import UserError
from tff_tx.privacy import SparseHistogram, find_sparse_histogram, gaussian_delta


def integrated_delta(mechanism, shared, epsilon):
    """The hockey-stick divergence by its definition, both ways, of a client with so many things that others share.

    Along the direction in which it matters the shared counts are one Gaussian, moved by the root of their number; its
    own things are hidden with some probability, and that they are seen has probability 0 without the client.
    """
    density = stats.norm(0, mechanism.noise_stddev).pdf
    shift = math.sqrt(shared)
    hidden = stats.norm.cdf(mechanism.threshold - 1, scale=mechanism.noise_stddev) ** (mechanism.max_items - shared)
    reach = 12 * mechanism.noise_stddev
    x = np.linspace(-reach, reach + shift, 400_001)
    with_client, without = hidden * density(x - shift), density(x)
    there = 1 - hidden + integrate.simpson(np.maximum(0, with_client - math.exp(epsilon) * without), x=x)
    gone = integrate.simpson(np.maximum(0, without - math.exp(epsilon) * with_client), x=x)
    return max(there, gone)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
@pytest.mark.parametrize(
    ("stddev", "threshold", "items"),
    [(2.0, 6.0, 1), (2.0, 6.0, 3), pytest.param(5.0, 20.0, 9, marks=pytest.mark.slow), (1.0, 2.0, 2)],
)
def test_delta_is_that_of_the_definition(stddev, threshold, items, epsilon):
    mechanism = SparseHistogram(stddev, threshold, items)
    expected = max(integrated_delta(mechanism, shared, epsilon) for shared in range(items + 1))
    assert mechanism.delta(epsilon) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_with_one_thing_delta_is_a_tail_by_hand():
    """Noise 2, threshold 7: a client's own word is seen if the noise is 6 or more, three standard deviations."""
    assert SparseHistogram(2.0, 7.0, 1).delta(20.0) == pytest.approx(0.001349898, rel=1e-6)


@pytest.mark.parametrize("items", [1, 20, 500])
@pytest.mark.parametrize("epsilon", [0.3, 1.0, 4.0, 10.0])
def test_it_meets_the_guarantee_and_does_not_waste_it(items, epsilon):
    delta = 1e-5
    found = find_sparse_histogram(items, epsilon, delta)
    assert gaussian_delta(items / found.noise_stddev**2 / 2, epsilon) == pytest.approx(delta / 2, rel=1e-4)
    assert found.delta(epsilon) <= delta
    lower = SparseHistogram(found.noise_stddev, found.threshold - 0.01 * found.noise_stddev, items)
    assert lower.delta(epsilon) > delta


@pytest.mark.parametrize("items", [1, 50])
def test_the_sum_of_the_two_deltas_bounds_it(items):
    """Wilson et al. 2020: delta of the noise and the probability that any of k own things is seen."""
    found = find_sparse_histogram(items, 2.0, 1e-6)
    seen = 1 - (1 - found.release_probability(1)) ** items
    bound = gaussian_delta(items / found.noise_stddev**2 / 2, 2.0) + seen
    assert found.delta(2.0) <= bound * (1 + 1e-9)
    # Google's library takes the threshold at which that sum is delta; the exact one is not above it.
    by_sum = 1 + found.noise_stddev * stats.norm.ppf((1 - 1e-6 / 2) ** (1 / items))
    assert found.threshold <= by_sum


def test_things_of_one_client_are_seen_as_rarely_as_delta_says():
    rng = np.random.default_rng(0)
    mechanism, delta = find_sparse_histogram(10, 1.0, 0.05), 0.05
    noisy = 1 + rng.normal(0, mechanism.noise_stddev, size=[200_000, 10])
    seen = (noisy >= mechanism.threshold).any(axis=1).mean()
    assert 0.2 * delta < seen <= delta
    assert (noisy >= mechanism.threshold).mean() == pytest.approx(mechanism.release_probability(1), abs=1e-3)


@pytest.mark.parametrize(
    ("epsilon", "delta", "named"),
    [(0.0, 1e-5, "privacy.target_epsilon=0"), (math.inf, 1e-5, "inf"), (1.0, 1.0, "privacy.target_delta")],
)
def test_what_is_out_of_range_is_refused(epsilon, delta, named):
    with pytest.raises(UserError, match=named):
        find_sparse_histogram(10, epsilon, delta)
