"""Marvell: its noise is the optimum of the paper's problem, and no attack does better than the paper's bound."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize
from sklearn import metrics

from tests.vertical import small
from tff_tx.core.errors import UserError
from tff_tx.vertical.defences import gradient_defence
from tff_tx.vertical.marvell import allocate, marvell, sum_of_divergences

KEY = tf.constant([3, 4], tf.int64)


def scalars(*values):
    return [tf.constant(value, tf.float32) for value in values]


def divergence(one, other, between):
    """KL of two Gaussians by their covariance matrices and the difference of their means."""
    inverse = np.linalg.inv(other)
    of_volumes = np.linalg.slogdet(other)[1] - np.linalg.slogdet(one)[1]
    return (np.trace(inverse @ one) + between @ inverse @ between - len(one) + of_volumes) / 2


def both_divergences(variances, size, noise):
    """Of classes whose means are 1 apart; noise is two variances along that and two across, any way that is."""
    between = np.random.default_rng(0).normal(size=size)
    between /= np.linalg.norm(between)
    along = np.outer(between, between)
    of = [np.eye(size) * (v + b) + (a - b) * along for v, a, b in zip(variances, noise[:2], noise[2:])]
    return divergence(of[1], of[0], between) + divergence(of[0], of[1], between)


@pytest.mark.parametrize(
    ("u", "v", "share", "budget"),
    [(0.2, 0.2, 0.5, 4.0), (0.02, 0.3, 0.1, 4.0), (0.3, 0.02, 0.1, 4.0), (0.3, 0.02, 0.1, 0.3)],
)
def test_the_noise_is_the_optimum_of_the_four_parameter_problem(u, v, share, budget):
    """Against sequential quadratic programming on divergences of whole covariance matrices."""
    size, weights = 8, np.array([1 - share, share])
    along, across = allocate(*scalars(u, v, 1.0, share, size, budget))
    power = np.concatenate([weights, (size - 1) * weights])
    found = np.concatenate([along, across])
    assert power @ found == pytest.approx(budget, rel=1e-4)
    assert np.all(along >= across)
    assert np.all(across >= 0)
    best = min(
        optimize.minimize(
            lambda noise: both_divergences((u, v), size, noise),
            0.9 * budget / (power @ start) * np.array(start),
            method="SLSQP",
            bounds=[(0, None)] * 4,
            constraints=[
                {"type": "ineq", "fun": lambda noise: budget - power @ noise},
                {"type": "ineq", "fun": lambda noise: noise[:2] - noise[2:]},
            ],
        ).fun
        for start in ([1, 1, 0.01, 0.01], [1, 2, 0.3, 0.2], [2, 1, 0.01, 1])
    )
    own = float(sum_of_divergences(*scalars(u, v, 1.0, size), along, across))
    assert own == pytest.approx(both_divergences((u, v), size, found), rel=1e-4)
    assert own == pytest.approx(best, rel=1e-3)


@pytest.fixture
def gaussians(rng):
    """Gradients of two classes, Gaussian about means that are 2 apart, the rare one with the larger variance."""
    labels = (rng.random(20_000) < 0.2).astype(np.int32)
    values = rng.normal(size=(20_000, 2, 4)) * np.where(labels, 0.5, 0.2)[:, None, None]
    values[:, 0, 0] += 2.0 * labels
    return values.astype(np.float32), labels


ACROSS = tf.reshape([0.0] + [2.0] * 7, [2, 4])
DEFENCES = {
    "marvell": marvell(4.0),
    "a tenth of the power": marvell(0.4),
    "across the difference of the means alone": lambda g, y, key: g + ACROSS * tf.random.stateless_normal(g.shape, key),
    "on one class alone": lambda g, y, key: tf.where((y == 1)[:, None, None], marvell(4.0)(g, y, key), g),
}


@pytest.mark.parametrize("name", DEFENCES)
def test_no_attack_beats_the_bound_and_broken_defences_are_found_out(name, gaussians):
    """Theorem 1 of Li et al. bounds attackers who know the direction, the norms, or each class's variance."""
    gradients, labels = gaussians
    of = scalars(0.04, 0.25, 4.0, np.mean(labels), 8.0, 4.0 * 4.0)
    least = float(sum_of_divergences(*of[:3], of[4], *allocate(*of)))
    bound = 0.5 + least**0.5 / 2 - least / 8
    assert bound < 0.8
    sent = DEFENCES[name](tf.constant(gradients), tf.constant(labels), KEY).numpy()
    flat = sent.reshape(len(sent), -1)
    scores = flat[:, 0], np.linalg.norm(flat, axis=1), np.linalg.norm(flat[:, 1:], axis=1), np.abs(flat[:, 0])
    aucs = [max(auc, 1 - auc) for auc in (metrics.roc_auc_score(labels, score) for score in scores)]
    assert (max(aucs) <= bound + 0.01) == (name == "marvell"), (aucs, bound)


def test_a_batch_of_one_class_is_sent_as_it_is_and_other_numbers_of_classes_are_rejected(rng):
    gradients = tf.constant(rng.normal(size=(5, 1, 3)), tf.float32)
    np.testing.assert_array_equal(marvell(4.0)(gradients, tf.ones(5, tf.int32), KEY), gradients)
    with pytest.raises(UserError, match="=marvell hides two classes from each other, and there are 10: choose max_n"):
        gradient_defence(small.settings(gradient_defence="marvell"), 10)
