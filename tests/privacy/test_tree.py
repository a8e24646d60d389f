"""Tree aggregation against the matrix that it is, tensorflow-privacy, and figures of its tests."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_privacy as tfp
from tensorflow_privacy.privacy.analysis import tree_aggregation_accountant

from tests.privacy.patterns import nodes, patterns
from tests.privacy.patterns import squared_sensitivity as by_force
from tff_tx.privacy import Participation, tree


@pytest.mark.parametrize("rounds", [1, 2, 5, 8, 11, 12])
@pytest.mark.parametrize("participation", [Participation(), Participation(2), Participation(3, 2), Participation(5)])
@pytest.mark.parametrize("restart_every", [None, 3, 4])
def test_sensitivity_is_that_of_the_matrix(rounds, participation, restart_every):
    encoder, _ = nodes(rounds, restart_every)
    # All is positive, so that a client does most by sending the same all the time.
    expected = max(float(np.sum(encoder[:, chosen].sum(axis=1) ** 2)) for chosen in patterns(rounds, participation))
    assert tree.squared_sensitivity(rounds, participation, restart_every) == expected


def test_signs_do_not_matter():
    encoder, _ = nodes(8)
    assert tree.squared_sensitivity(8, Participation(2)) == by_force(encoder, Participation(2))


# tensorflow_privacy counts the rounds between, one less; its test has the first four.
@pytest.mark.parametrize(
    ("most", "between", "rounds", "expected"), [(1, 7, 8, 4), (3, 3, 9, 11), (3, 2, 7, 9), (8, 2, 24, 88)]
)
def test_published(most, between, rounds, expected):
    assert tree.squared_sensitivity(rounds, Participation(between + 1, most)) == expected


@pytest.mark.parametrize(("most", "between", "rounds"), [(1, 0, 100), (4, 9, 60), (3, 16, 77), (20, 1, 37)])
def test_as_tensorflow_privacy(most, between, rounds):
    expected = tree_aggregation_accountant.compute_zcdp_single_tree(0.5, rounds, most, between)
    found = tree.squared_sensitivity(rounds, Participation(between + 1, most)) / (2 * 0.5**2)
    assert found == pytest.approx(expected)


def test_restarts_as_tensorflow_privacy():
    # Once a tree, and three trees.
    expected = tree_aggregation_accountant.compute_rdp_tree_restart(2.0, [10, 10, 4], 5.0)
    found = tree.squared_sensitivity(24, Participation(10), 10)
    # Its bound lets a client be where it does most in every tree; here its rounds are ten apart.
    assert found * 5.0 / (2 * 2.0**2) <= expected
    assert tree.squared_sensitivity(20, Participation(10), 10) == 8


@pytest.mark.parametrize(("rounds", "restart_every"), [(1, None), (7, None), (16, None), (13, 4), (9, 1)])
def test_variances_are_those_of_the_best_estimates(rounds, restart_every):
    encoder, ends = nodes(rounds, restart_every)
    found = tree.sum_variances(rounds, restart_every)
    for t in range(1, rounds + 1):
        known = encoder[ends <= t][:, :t]
        # The estimate of least variance of the running sum from nodes with independent noise.
        weights = np.linalg.lstsq(known.T, np.ones(t), rcond=None)[0]
        assert found[t - 1] == pytest.approx(weights @ weights)
    assert np.sum(tree.sum_weights(rounds, restart_every) ** 2, axis=1) == pytest.approx(found)


def test_a_tree_that_never_restarts_in_these_rounds_is_one_tree():
    """As large as a restart may be; nothing is as long as it."""
    participation = Participation(2, 2)
    for every in (9, 2**31 - 1):
        np.testing.assert_array_equal(tree.sum_variances(9, every), tree.sum_variances(9))
        np.testing.assert_array_equal(tree.sum_weights(9, every), tree.sum_weights(9))
        assert tree.squared_sensitivity(9, participation, every) == tree.squared_sensitivity(9, participation)


def test_variances_are_those_of_tensorflow_privacys_noise():
    class Unit(tfp.tree_aggregation.ValueGenerator):
        """Independent noise for 4,000 trees at once, from a counter."""

        def initialize(self):
            return tf.constant(0)

        def next(self, state):
            return tf.random.stateless_normal([4000], [state, 1]), state + 1

    aggregator = tfp.tree_aggregation.EfficientTreeAggregator(Unit())
    state, measured = aggregator.init_state(), []
    for _ in range(12):
        total, state = aggregator.get_cumsum_and_update(state)
        measured.append(np.var(total))
    np.testing.assert_allclose(measured, tree.sum_variances(12), rtol=5 * np.sqrt(2 / 4000))


def test_sensitivity_grows_with_rounds_and_participations():
    by_round = [tree.squared_sensitivity(r, Participation(5)) for r in range(1, 70)]
    assert by_round == sorted(by_round)
    by_separation = [tree.squared_sensitivity(64, Participation(b)) for b in (1, 2, 4, 16, 64)]
    assert by_separation == sorted(by_separation, reverse=True)
    assert by_separation[-1] == 7
