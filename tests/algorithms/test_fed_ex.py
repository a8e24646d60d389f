"""FedEx: what clients draw changes their update, and the server learns what does well."""

import collections
import functools

import numpy as np
import pytest

from tests import tiny
from tests.algorithms.test_algorithms import SIZES, assert_close, clients, engine_of, options, run, start
from tff_tx.aggregators import FigureSumFactory, GridSumFactory, SecureSums
from tff_tx.aggregators.secure_sums import secure_mean
from tff_tx.algorithms.fed_ex import server_choice

RATES = (0.0, 0.1)


def choosing(*choices, **more):
    return options(momentum=0.9, client_choices=tuple(tuple(choice.items()) for choice in choices), **more)


def moved(output):
    return [w - w0 for w, w0 in zip(tiny.weights_of(output.state), start())]


def seeded(number, x, y):
    """A batch with the seed of one client of several."""
    return collections.OrderedDict(x, seed=x["seed"] + 100 * number), y


def sums(loss, examples):
    return collections.OrderedDict(loss=np.array(loss, np.float32), examples=np.array(examples, np.float32))


def beginning(k=2):
    zeros = {name: np.float32(0) for name in ("squares", "losses", "weight")}
    return collections.OrderedDict(probabilities=np.full(k, 1 / k, np.float32), **zeros)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "like"),
    [
        ({"learning_rate": 0.05, "momentum": 0.9}, {"rate": 0.05, "momentum": 0.9}),
        ({"learning_rate": 0.0, "momentum": 0.5}, None),
    ],
)
def test_a_drawn_setting_is_that_of_fed_avg(choice, like):
    """With one and the same choice twice, all clients do what FedAvg's do with it."""
    found = moved(run("fed_ex", choosing(choice, choice), clients(), rounds=1))
    expected = [np.zeros_like(w) for w in start()]
    if like is not None:
        expected = moved(run("fed_avg", options(**like), clients(), rounds=1))
        assert np.abs(expected[0]).max() > 0.01
    assert_close(found, expected)


@pytest.mark.slow
def test_drawn_steps_cut_the_round_short():
    choice = {"learning_rate": 0.1, "momentum": 0.9, "steps": 1}
    found = moved(run("fed_ex", choosing(choice, choice), clients(), rounds=1))
    first = [tiny.batches(*(part[:4] for part in tiny.client_data(n, seed=i)), 4) for i, n in enumerate(SIZES)]
    examples = [min(4, n) for n in SIZES]
    alone = [moved(run("fed_avg", options(momentum=0.9), [one], rounds=1)) for one in first]
    assert_close(found, [np.average([a[k] for a in alone], 0, weights=examples) for k in (0, 1)])


@pytest.mark.slow
def test_the_server_comes_to_prefer_what_lowers_the_loss():
    """A rate of 0 never lowers it."""
    data = [one.map(functools.partial(seeded, i)) for i, one in enumerate(clients((8,) * 12))]
    output = run("fed_ex", choosing(*({"learning_rate": r, "momentum": 0.0} for r in RATES)), data, 6)
    found = output.metrics["client_work"]["choices"]
    assert found["probability_1"] > 0.9
    assert found["probability_0"] + found["probability_1"] == pytest.approx(1.0)
    # Secure sums show the server no more than it needs for that.
    sums = SecureSums(GridSumFactory(20, 12), FigureSumFactory())
    secure = {"aggregator": secure_mean(sums, True), "figures_sum": sums.figures}
    choices = choosing(*({"learning_rate": r, "momentum": 0.0} for r in RATES), **secure)
    again = run("fed_ex", choices, data, 6)
    assert engine_of("fed_ex", choices).parts.moduli
    assert again.metrics["client_work"]["choices"]["probability_1"] == pytest.approx(found["probability_1"], abs=0.01)
    for one, other in zip(moved(again), moved(output)):
        np.testing.assert_allclose(one, other, atol=0.02)


def test_exponentiated_gradient_is_the_papers():
    """Two rounds by hand: the first has its own mean as baseline, the second the mean of the round before."""
    state, theta = server_choice(beginning(), sums([-1.0, 3.0], [4, 4]))
    baseline = 2.0 / 8
    gradient = np.array([-1.0 - baseline * 4, 3.0 - baseline * 4]) / (0.5 * 8)
    eta = np.sqrt(2 * np.log(2) / np.abs(gradient).max() ** 2)
    wanted = 0.5 * np.exp(-eta * gradient)
    np.testing.assert_allclose(theta, wanted / wanted.sum(), rtol=1e-5)
    after, theta_2 = server_choice(state, sums([2.0, 0.0], [8, 0]))
    second = np.array([2.0 - baseline * 8, 0.0]) / (np.asarray(theta) * 8)
    eta = np.sqrt(2 * np.log(2) / (np.abs(gradient).max() ** 2 + np.abs(second).max() ** 2))
    wanted = np.asarray(theta) * np.exp(-eta * second)
    np.testing.assert_allclose(theta_2, wanted / wanted.sum(), rtol=1e-5)
    np.testing.assert_allclose(after["losses"], 0.9 * baseline + 0.25, rtol=1e-6)


def test_a_round_without_clients_changes_nothing():
    _, theta = server_choice(beginning(3), sums([0.0] * 3, [0] * 3))
    np.testing.assert_allclose(theta, 1 / 3, rtol=1e-6)
