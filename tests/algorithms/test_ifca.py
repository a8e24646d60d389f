"""IFCA against NumPy, and what clients send of models that they did not choose."""

import dataclasses
import functools

import numpy as np
import pytest

from tests import tiny
from tests.algorithms.test_personal import run
from tests.runtime.test_hooks import DATA, OPTIONS, RATE, SIZES, gradient, named
from tff_tx import algorithms
from tff_tx.algorithms.ifca import Clusters, models_of
from tff_tx.runtime import Hook, LocalEngine, process_state

ROUNDS = [[0, 1], [2, 0], [3, 1, 2]]

pytestmark = pytest.mark.usefixtures("compiled_once")


@functools.cache
def process(clusters):
    options = dataclasses.replace(OPTIONS, clusters=clusters, cluster_spread=0.2)
    return named(algorithms.build_ifca(tiny.linear_model(), options))


def flat(weights):
    return np.concatenate([np.ravel(w) for w in weights.trainable])


def loss(weights, x, y):
    logits = x @ weights[:15].reshape(5, 3) + weights[15:]
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y])


def by_hand(models):
    """(models after the rounds, the model that each client trains in each round); float64."""
    models, chosen = [np.array(m, np.float64) for m in models], []
    for clients in ROUNDS:
        before = [m.copy() for m in models]
        for client in clients:
            x, y = DATA[client]
            best = int(np.argmin([loss(m, x, y) for m in before]))
            share = SIZES[client] / sum(SIZES[c] for c in clients)
            models[best] -= share * RATE * gradient(before[best], x, y)
            chosen.append(best)
    return models, chosen


class Sent(Hook):
    """What clients send."""

    observes = True

    def __init__(self):
        self.contributions = []

    def on_counted(self, position, contribution):
        self.contributions.append([np.asarray(leaf) for leaf in contribution])


def test_ifca_equals_numpy():
    sent = Sent()
    state = run(LocalEngine(process(3), hooks=[sent]), ROUNDS)
    start = models_of(_Weights(Clusters(tiny.linear_model(), 3, 0.2)))
    expected, chosen = by_hand([flat(w) for w in start])
    found = [flat(w) for w in models_of(process_state(state).global_model_weights)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(set(chosen)) > 1
    for contribution, k in zip(sent.contributions, chosen):
        kernels = next(leaf for leaf in contribution if leaf.shape == (3, 5, 3))
        assert [bool(np.any(kernel)) for kernel in kernels] == [i == k for i in range(3)]


class _Weights:
    def __init__(self, clusters):
        self.trainable, self.non_trainable = ([np.asarray(w) for w in part] for part in clusters.initial_weights)


@pytest.mark.slow
def test_with_one_cluster_it_is_fed_avg():
    found = run(LocalEngine(process(1)), ROUNDS)
    plain = run(LocalEngine(named(algorithms.build_fed_avg(tiny.linear_model(), OPTIONS))), ROUNDS)
    np.testing.assert_allclose(
        flat(models_of(process_state(found).global_model_weights)[0]),
        flat(process_state(plain).global_model_weights),
        atol=1e-6,
    )
