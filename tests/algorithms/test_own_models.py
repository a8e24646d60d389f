"""Models of clients' own beside the global one: each paper's box against NumPy, and its limits."""

import dataclasses

import numpy as np
import pytest

from tests import tiny
from tests.algorithms.test_personal import ROUNDS, run
from tests.runtime.test_hooks import DATA, OPTIONS, RATE, SIZES, gradient, named
from tff_tx import algorithms, cohorts
from tff_tx.config.registries import ALGORITHMS
from tff_tx.runtime import LocalEngine, RetainedState, process_state

pytestmark = pytest.mark.usefixtures("compiled_once")


def ditto(strength):
    def update(w, v, x, y):
        v = w if v is None else v
        return w - RATE * gradient(w, x, y), v - RATE * (gradient(v, x, y) + strength * (v - w))

    return update


def mr_mtl(strength):
    def update(w, v, x, y):
        _, v = ditto(strength)(w, v, x, y)
        return v, v

    return update


def p_fed_me(w, _, x, y):
    theta = w
    for _ in range(3):
        theta = theta - RATE * (gradient(theta, x, y) + 2.0 * (theta - w))
    return w - RATE * 2.0 * (w - theta), theta


def apfl(mixing, rate):
    def update(w, state, x, y):
        v, alpha = (w, mixing) if state is None else state
        slope = gradient(alpha * v + (1 - alpha) * w, x, y)
        after = np.clip(alpha - rate * slope @ (v - w), 0, 1)
        return w - RATE * gradient(w, x, y), (v - RATE * alpha * slope, after)

    return update


def by_hand(update):
    """(global model, states by client) after the rounds, of one batch a client; float64."""
    w, states = np.ones(18), {}
    for clients in ROUNDS:
        total = np.zeros(18)
        for client in clients:
            after, states[client] = update(w, states.get(client), *DATA[client])
            total += SIZES[client] * (w - after)
        w = w - total / sum(SIZES[client] for client in clients)
    return w, states


def local(w, v, x, y):
    """Training alone, from the first model that a client got."""
    v = w if v is None else v
    return v - RATE * gradient(v, x, y)


def fed_avg(w, _, x, y):
    return w - RATE * gradient(w, x, y)


def alone_beside_fed_avg(w, state, x, y):
    """APFL whose models are all the clients' own."""
    return fed_avg(w, None, x, y), (local(w, state and state[0], x, y), 1.0)


CASES = {
    "ditto": ("ditto", {"personal_strength": 0.5}, ditto(0.5)),
    "mr_mtl": ("mr_mtl", {"personal_strength": 0.5}, mr_mtl(0.5)),
    "p_fed_me": ("p_fed_me", {"personal_strength": 2.0, "moreau_steps": 3}, p_fed_me),
    "apfl": ("apfl", {"mixing": 0.4, "mixing_rate": 2.0}, apfl(0.4, 2.0)),
    "ditto, lambda 0": ("ditto", {"personal_strength": 0.0}, lambda *args: (fed_avg(*args), local(*args))),
    "mr_mtl, lambda 0": ("mr_mtl", {"personal_strength": 0.0}, lambda *args: (local(*args),) * 2),
    "p_fed_me, one step": (
        "p_fed_me",
        {"personal_strength": 1 / RATE, "moreau_steps": 1},
        lambda *args: (fed_avg(*args),) * 2,
    ),
    "apfl, alpha 0": ("apfl", {"mixing": 0.0, "mixing_rate": 0.0}, apfl(0.0, 0.0)),
    "apfl, alpha 1": ("apfl", {"mixing": 1.0, "mixing_rate": 0.0}, alone_beside_fed_avg),
}
"""After the comma: limits, at which an algorithm is FedAvg or leaves clients alone."""


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * ("," in c)) for c in CASES])
def test_an_algorithm_equals_numpy(case, tmp_path):
    name, parts, update = CASES[case]
    record = ALGORITHMS[name]
    built = record.build(tiny.linear_model(), dataclasses.replace(OPTIONS, **parts))
    store = cohorts.ClientStore(str(tmp_path / "personal"), 10)
    engine = LocalEngine(named(built), hooks=[RetainedState(store)])
    found = process_state(run(engine)).global_model_weights.trainable
    w, states = by_hand(update)
    np.testing.assert_allclose(np.concatenate([np.ravel(f) for f in found]), w, atol=1e-5)
    for client, state in states.items():
        own = flat(record.own_weights(tuple(map(np.asarray, found)), tuple(store.read(str(client), len(ROUNDS))[1:])))
        v, alpha = state if name == "apfl" else (state, 1.0)
        np.testing.assert_allclose(own, alpha * v + (1 - alpha) * w, atol=1e-5)
    plain = LocalEngine(named(algorithms.build_fed_avg(tiny.linear_model(), OPTIONS)))
    assert engine.traffic().upload_bytes == pytest.approx(plain.traffic().upload_bytes, abs=16)
    if name in ("ditto", "apfl"):
        np.testing.assert_allclose(w, by_hand(lambda w, _, x, y: (w - RATE * gradient(w, x, y), 0))[0])


def flat(weights):
    return np.concatenate([np.ravel(np.asarray(w, np.float64)) for w in weights])
