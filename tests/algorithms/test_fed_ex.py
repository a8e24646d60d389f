"""FedEx: what clients draw changes their update, and the server learns what does well."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.algorithms.test_algorithms import (
    SIZES,
    assert_close,
    clients,
    engine_of,
    numpy_gradient,
    options,
    run,
    start,
)
from tff_tx.aggregators import FigureSumFactory, GridSumFactory, SecureSums
from tff_tx.aggregators.secure_sums import secure_mean
from tff_tx.algorithms.client import Client
from tff_tx.algorithms.fed_ex import client_update, server_choice
from tff_tx.algorithms.optimizers import build_adapter_optimizer

RATES = (0.0, 0.1)


def choosing(*choices, **more):
    momentum = 0.9 if "momentum" in choices[0] else 0.0
    return options(momentum=momentum, client_choices=tuple(tuple(choice.items()) for choice in choices), **more)


def moved(output):
    return [w - w0 for w, w0 in zip(tiny.weights_of(output.state), start())]


def seeded(number, x, y):
    """A batch with the seed of one client of several."""
    return collections.OrderedDict(x, seed=x["seed"] + 100 * number), y


def updates(choices, model=None, adapters=(), **more):
    """A client's update by each of several choices: 7 examples in batches of 4."""
    opts, model = choosing(*choices, **more), model or tiny.linear_model()
    if adapters:
        build = functools.partial(build_adapter_optimizer, opts.client_optimizer_fn, adapters)
        opts = dataclasses.replace(opts, client_optimizer_fn=build)

    @tf.function(autograph=False)
    def update(probabilities):
        one = Client.receive(model, opts, tff.learning.models.ModelWeights(*model.initial_weights))
        return client_update(one, clients()[0], probabilities)[0][0].update

    return [[u.numpy() for u in update(tf.one_hot(j, len(choices)))] for j in range(len(choices))]


def by_hand(batches=2, rate=0.1, clip=np.inf, factors=(1.0, 1.0)):
    """w_t - w of plain SGD in NumPy."""
    x, y = tiny.client_data(SIZES[0], seed=0)
    local = start()
    for first in (0, 4)[:batches]:
        gradient = numpy_gradient(*local, x[first : first + 4], y[first : first + 4])
        scale = min(1.0, clip / np.sqrt(sum((g**2).sum() for g in gradient)))
        local = tuple(w - rate * f * scale * g for w, g, f in zip(local, gradient, factors))
    return [w0 - w for w0, w in zip(start(), local)]


@pytest.mark.parametrize(
    ("name", "values", "expected", "more"),
    [
        ("learning_rate", (0.1, 0.05), ({}, {"rate": 0.05}), {}),
        pytest.param("steps", (2, 1), ({}, {"batches": 1}), {}, marks=pytest.mark.slow),
        pytest.param("epochs", (1.0, 0.5), ({}, {"batches": 1}), {}, marks=pytest.mark.slow),  # of 2, a batch each
        ("clip_norm", (1e6, 0.1), ({}, {"clip": 0.1}), {}),
        ("learning_rate_factor", (1.0, 3.0), ({}, {"factors": (3.0, 1.0)}), {"adapters": (0,)}),
    ],
)
def test_each_drawn_setting_changes_the_update_as_it_does_by_hand(name, values, expected, more):
    found = updates([{name: value} for value in values], **more)
    for one, wanted in zip(found, expected):
        assert_close(one, by_hand(**wanted))
    assert np.abs(found[0][0] - found[1][0]).max() > 1e-3


@pytest.mark.slow
def test_a_drawn_weight_decay_changes_the_update():
    """AdamW subtracts rate * decay * w at each step."""
    without, with_it = updates([{"weight_decay": 0.0, "steps": 1}, {"weight_decay": 0.5, "steps": 1}], client="adamw")
    for plain, decayed, w in zip(without, with_it, start()):
        np.testing.assert_allclose(decayed - plain, 0.1 * 0.5 * w, rtol=1e-4)


@pytest.mark.slow
def test_a_drawn_dropout_rate_is_that_of_a_model_built_with_it():
    rates = (0.2, 0.6)
    found = updates([{"dropout": rate} for rate in rates], tiny.linear_model(dropout=0.1))
    for rate, one in zip(rates, found):
        built = updates([{"learning_rate": 0.1}] * 2, tiny.linear_model(dropout=rate))[0]
        assert_close(one, built)
    assert np.abs(found[0][0] - found[1][0]).max() > 1e-3


def test_a_drawn_dropout_rate_does_not_count_for_the_noise_that_it_adds_to_the_loss():
    """A client that learns nothing has changed nothing, whatever its rate."""
    model, opts = tiny.linear_model(dropout=0.1), choosing({"dropout": 0.0}, {"dropout": 0.6}, rate=0.0)
    rng = np.random.default_rng(0)
    weights = tuple(tf.constant(rng.normal(size=w.shape), tf.float32) for w in start())

    @tf.function(autograph=False)
    def change(probabilities):
        one = Client.receive(model, opts, tff.learning.models.ModelWeights(weights, ()))
        return client_update(one, clients()[0], probabilities)[1]["loss"]

    for choice in (0, 1):
        np.testing.assert_allclose(change(tf.one_hot(choice, 2)).numpy(), [0.0, 0.0], atol=1e-5)


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
