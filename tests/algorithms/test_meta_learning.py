"""Reptile and Per-FedAvg by hand on two quadratics."""

import numpy as np
import pytest

from tests.algorithms.quadratic import CURVATURE, MINIMUM, RATE, STEPS, gradient, options, run

ROUNDS = [[0, 1], [1], [0, 1]]


def test_reptile_with_one_step_and_rate_1_descends_the_mean_loss(tmp_path):
    found, w = run("reptile", options(), tmp_path, [[0, 1]] * 3, steps=(1, 1)), 0.0
    for number in range(3):
        w = w - RATE * np.mean([gradient(k, w) for k in (0, 1)])
        np.testing.assert_allclose(found[number], w, rtol=1e-5)


def test_reptile_moves_towards_the_mean_of_models(tmp_path):
    found = run("reptile", options(server_rate=0.3), tmp_path, [[0, 1]])
    models = [MINIMUM[k] * (1 - (1 - RATE * CURVATURE[k]) ** STEPS[k]) for k in (0, 1)]
    np.testing.assert_allclose(found, 0.3 * np.mean(models), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("hessian_step", [None, 1e-2])
def test_per_fed_avg_equals_numpy(tmp_path, hessian_step):
    """On a quadratic a difference of gradients gives the Hessian, which is the curvature."""
    alpha, w = 0.1, 0.0
    opts = options(inner_learning_rate=alpha, hessian_step=hessian_step)
    found = run("per_fed_avg", opts, tmp_path, ROUNDS)
    for number, clients in enumerate(ROUNDS):
        models = []
        for k in clients:
            y = w
            for _ in range(STEPS[k]):
                g = gradient(k, y - alpha * gradient(k, y))
                y = y - RATE * (g if hessian_step is None else (1 - alpha * CURVATURE[k]) * g)
            models.append(y)
        w = np.mean(models)
        np.testing.assert_allclose(found[number], w, rtol=1e-4)


@pytest.mark.slow
def test_per_fed_avg_counts_each_example_once(tmp_path):
    """The weight of a client is its number of examples, however often its batches are passed over."""
    for step in (None, 1e-2):
        more = {"inner_learning_rate": 0.0, "hessian_step": step}
        found = run("per_fed_avg", options(weighted=True, **more), tmp_path, [[0, 1]])
        np.testing.assert_allclose(found, run("fed_avg", options(weighted=True), tmp_path, [[0, 1]]), rtol=1e-5)
