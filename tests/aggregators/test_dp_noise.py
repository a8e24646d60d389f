"""The noise: its law, its correlation, its seed."""

import numpy as np
import pytest
import tensorflow as tf

from tests.aggregators import dp_numpy
from tff_tx.aggregators import dp

DRAWS = 20_000
"""Numbers a release; they are independent, so each is a sample of the noise over releases."""


def sequence(noise_fn, releases, shape=(DRAWS,)):
    """The noise of successive releases, [releases, *shape]."""
    noise = noise_fn(tf.TensorSpec(shape))
    step, state, drawn = tf.function(noise.next), noise.initialize(), []
    for _ in range(releases):
        value, state = step(state)
        drawn.append(value.numpy())
    return np.stack(drawn)


def check_covariance(noise, expected):
    """Compares the covariance over releases with the expected one, entry by entry within five standard errors."""
    found = noise @ noise.T / noise.shape[1]
    # Of a product of two normals: variance c_ii c_jj + c_ij^2 (Isserlis).
    diagonal = np.diag(expected)
    error = np.sqrt((np.outer(diagonal, diagonal) + expected**2) / noise.shape[1])
    assert np.all(np.abs(found - expected) <= 5 * error + 1e-6)
    assert np.all(np.abs(noise.mean(1)) <= 5 * np.sqrt(diagonal / noise.shape[1]))


def strategy(releases, bands):
    """Some C, different in every row."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0.5, 1.5, [releases, 1]), rng.uniform(-0.5, 0.5, [releases, bands - 1])], 1)


def test_independent_noise_has_the_stated_deviation_and_is_drawn_anew():
    check_covariance(sequence(dp.independent_noise(0.7, dp.noise_key(1)), 5), 0.49 * np.eye(5))


def test_independent_noise_is_normal():
    draws = np.sort(sequence(dp.independent_noise(1.0, dp.noise_key(1)), 1)[0])
    erf = np.vectorize(__import__("math").erf)
    distance = np.abs((1 + erf(draws / np.sqrt(2))) / 2 - (np.arange(DRAWS) + 0.5) / DRAWS).max()
    assert distance < 1.95 / np.sqrt(DRAWS)  # Kolmogorov-Smirnov at 0.1 %


@pytest.mark.parametrize("restart_every", [None, 4, 5])
def test_tree_noise_is_correlated_as_honakers_tree(restart_every):
    matrix = dp_numpy.tree_increments(11, restart_every)
    noise = sequence(dp.tree_noise(0.5, dp.noise_key(2), restart_every), 11)
    check_covariance(noise, 0.25 * matrix @ matrix.T)


def test_the_trees_running_sum_grows_with_the_logarithm():
    """By hand: one node a binary digit of t, of variance 1 / (2 - 2^-height)."""
    matrix = np.cumsum(dp_numpy.tree_increments(8), 0)
    variance = [1, 2 / 3, 1 + 2 / 3, 4 / 7, 1 + 4 / 7, 2 / 3 + 4 / 7, 1 + 2 / 3 + 4 / 7, 8 / 15]
    np.testing.assert_allclose((matrix**2).sum(1), variance)


@pytest.mark.parametrize("bands", [1, 2, 4, 12])
def test_banded_noise_is_correlated_as_the_inverse_of_its_strategy(bands):
    """Covariance C^-1 C^-T."""
    bands_of_c = strategy(12, bands)
    inverse = np.linalg.inv(dp_numpy.dense(bands_of_c))
    check_covariance(sequence(dp.banded_noise(bands_of_c, 0.5, dp.noise_key(3)), 12), 0.25 * inverse @ inverse.T)


def test_banded_noise_is_the_solution_of_its_equation():
    """C W = Z exactly, Z being the independent noise of the same seed."""
    bands_of_c, key = strategy(9, 3), dp.noise_key(4)
    correlated = sequence(dp.banded_noise(bands_of_c, 1.0, key), 9, (6,))
    independent = sequence(dp.independent_noise(1.0, key), 9, (6,))
    np.testing.assert_allclose(dp_numpy.dense(bands_of_c) @ correlated, independent, atol=1e-5)


def test_a_strategy_is_not_used_beyond_its_end():
    with pytest.raises(tf.errors.InvalidArgumentError, match="not in"):
        sequence(dp.banded_noise(strategy(3, 2), 1.0, dp.noise_key(4)), 4)


@pytest.mark.parametrize("bad", [np.ones([3]), np.array([[1.0, 0.5], [0.0, 0.5]])])
def test_a_strategy_without_inverse_is_refused(bad):
    with pytest.raises(ValueError, match="diagonal, is above 0"):
        dp.banded_noise(bad, 1.0, dp.noise_key(1))(tf.TensorSpec([2]))


NOISES = {
    "independent": lambda key: dp.independent_noise(1.0, key),
    "tree": lambda key: dp.tree_noise(1.0, key, 3),
    "banded": lambda key: dp.banded_noise(strategy(8, 3), 1.0, key),
}


@pytest.mark.parametrize("name", NOISES)
def test_a_seed_decides_the_noise(name):
    first, again, other = (sequence(NOISES[name](dp.noise_key(seed)), 8, (50,)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not set(np.round(first, 6).ravel()) & set(np.round(other, 6).ravel())


def test_leaves_of_a_model_get_different_noise():
    noise = dp.independent_noise(1.0, dp.noise_key(1))((tf.TensorSpec([40]), tf.TensorSpec([8, 5])))
    (first, second), _ = noise.next(noise.initialize())
    assert not set(first.numpy()) & set(second.numpy().ravel())


def test_without_a_seed_nobody_knows_the_noise():
    keys = {tuple(dp.noise_key()) for _ in range(5)}
    assert len(keys) == 5
    assert not keys & {tuple(dp.noise_key(seed)) for seed in range(100)}
