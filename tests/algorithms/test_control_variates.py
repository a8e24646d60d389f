"""SCAFFOLD, FedDyn and FedNova by hand on two quadratics."""

import numpy as np
import pytest

from tests.algorithms.quadratic import OPTIMUM, RATE, STEPS, gradient, options, run
from tff_tx.aggregators.dp import fixed_clip_aggregator
from tff_tx.algorithms import proximal
from tff_tx.core.errors import UserError

SOME = [[0, 1], [1], [0, 1], [0], [1, 0]]
ALL = [[0, 1]] * 5


def scaffold(rounds, steps=STEPS):
    """Algorithm 1 of Karimireddy et al., option II."""
    w, c, own, found = 0.0, 0.0, [0.0, 0.0], []
    for clients in rounds:
        models, changes = [], []
        for k in clients:
            y = w
            for _ in range(steps[k]):
                y = y - RATE * (gradient(k, y) - own[k] + c)
            after = own[k] - c + (w - y) / (steps[k] * RATE)
            changes.append(after - own[k])
            models.append(y)
            own[k] = after
        w, c = np.mean(models), c + len(clients) / 2 * np.mean(changes)
        found.append(w)
    return found


def test_scaffold_equals_numpy(tmp_path):
    np.testing.assert_allclose(run("scaffold", options(), tmp_path, SOME), scaffold(SOME), rtol=1e-5)


def test_scaffold_with_one_step_and_all_clients_descends_the_mean_loss(tmp_path):
    """The rate of the theorem without drift, 1 - eta mu of the mean loss, whatever the clients' losses are."""
    errors = np.abs(run("scaffold", options(), tmp_path, ALL, steps=(1, 1)) - OPTIMUM)
    np.testing.assert_allclose(errors, OPTIMUM * (1 - RATE * 2.5) ** np.arange(1, 6), rtol=1e-4)


@pytest.mark.slow
def test_drift_is_corrected(tmp_path):
    """FedAvg comes to rest elsewhere; all three come to rest at the minimum of the mean loss."""
    rounds = [[0, 1]] * 20
    assert np.abs(run("fed_avg", options(), tmp_path, rounds)[-1] - OPTIMUM) > 0.05
    for name, more in (("scaffold", {}), ("fed_dyn", {"dynamic_strength": 1.0})):
        found = run(name, options(**more), tmp_path / name, rounds)
        np.testing.assert_allclose(found[-1], OPTIMUM, atol=2e-3)


def fed_dyn(rounds, alpha, denominator=None):
    """Algorithm 1 of Acar et al., with the clients' minima approached by their steps; its mean may be a sum by 2."""
    w, h, own, found = 0.0, 0.0, [0.0, 0.0], []
    for clients in rounds:
        models = []
        for k in clients:
            y = w
            for _ in range(STEPS[k]):
                y = y - RATE * (gradient(k, y) - own[k] + alpha * (y - w))
            own[k] -= alpha * (y - w)
            models.append(y)
        moved = np.sum(np.subtract(models, w))
        h -= alpha / 2 * moved
        w = w + moved / (denominator or len(clients)) - h / alpha
        found.append(w)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 1e-3])
def test_fed_dyn_equals_numpy(tmp_path, alpha):
    found = run("fed_dyn", options(dynamic_strength=alpha), tmp_path, SOME)
    np.testing.assert_allclose(found, fed_dyn(SOME, alpha), rtol=1e-4)


def test_fed_dyn_comes_to_rest_at_the_minimum_however_many_clients_report(tmp_path):
    """As with dropouts and Poisson sampling; by the expected number it came to rest at 2.01 in place of 2.2."""
    rounds = [[0, 1], [0], [0, 1], [1], [0], [0, 1], [0], [1], [0]] * 8
    np.testing.assert_allclose(fed_dyn(rounds, 1.0)[-1], OPTIMUM, atol=2e-3)
    np.testing.assert_allclose(run("fed_dyn", options(dynamic_strength=1.0), tmp_path, rounds)[-1], OPTIMUM, atol=2e-3)


def test_fed_dyn_with_a_fixed_denominator_counts_nobody(tmp_path):
    """As under central differential privacy, where the number of clients is private."""
    fixed = {"aggregator": fixed_clip_aggregator(1e6, 2), "fixed_denominator": True}
    found = run("fed_dyn", options(dynamic_strength=0.5, **fixed), tmp_path, SOME)
    np.testing.assert_allclose(found, fed_dyn(SOME, 0.5, denominator=2), rtol=1e-4)


def test_fed_dyn_without_strength_is_fed_avg(tmp_path):
    found = run("fed_dyn", options(dynamic_strength=0.0), tmp_path, ALL)
    np.testing.assert_allclose(found, run("fed_avg", options(), tmp_path, ALL), rtol=1e-6)


def fed_nova(rounds, momentum, mu):
    """Equation 7 of Wang et al. with a_k of section 4: the sums of the coefficients of gradients, in closed form."""
    w, found = 0.0, []
    for clients in rounds:
        steps, lengths = [], []
        for k in clients:
            y, v = w, 0.0
            for _ in range(STEPS[k]):
                v = momentum * v + gradient(k, y) + mu * (y - w)
                y = y - RATE * v
            tau, alpha = STEPS[k], RATE * mu
            if mu:
                length = (1 - (1 - alpha) ** tau) / alpha
            else:
                length = (tau - momentum * (1 - momentum**tau) / (1 - momentum)) / (1 - momentum)
            steps.append((w - y) / length)
            lengths.append(length)
        shares = np.array([STEPS[k] for k in clients]) / sum(STEPS[k] for k in clients)
        w = w - (shares @ lengths) * (shares @ steps)
        found.append(w)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.7)])
def test_fed_nova_equals_numpy(tmp_path, momentum, mu):
    opts = options(momentum, weighted=True, transforms=(proximal(mu),))
    found = run("fed_nova", opts, tmp_path, SOME)
    np.testing.assert_allclose(found, fed_nova(SOME, momentum, mu), rtol=1e-4)


@pytest.mark.slow
def test_fed_nova_with_equal_steps_is_fed_avg(tmp_path):
    found = [run(name, options(0.9), tmp_path, ALL, steps=(4, 4)) for name in ("fed_nova", "fed_avg")]
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("name", ["scaffold", "fed_dyn"])
def test_clients_cannot_count_by_their_examples(tmp_path, name):
    with pytest.raises(UserError, match="plain means over clients"):
        run(name, options(weighted=True), tmp_path, ALL)
