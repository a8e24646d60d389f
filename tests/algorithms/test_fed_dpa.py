"""FedDPA against NumPy, and its limits."""

import dataclasses
import functools
import re

import numpy as np
import pytest

from tests import tiny
from tests.algorithms.test_personal import ROUNDS, run
from tests.runtime.test_hooks import DATA, OPTIONS, RATE, SIZES, named
from tff_tx import algorithms, cohorts, models
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine, RetainedState, process_state

SCALE = 2.0

pytestmark = pytest.mark.usefixtures("compiled_once")


@functools.cache
def model(freeze_a=False):
    """Two linear layers: adapters of rank 2 on a frozen one, and a head."""
    plain = tiny.linear_model(frozen=True)
    target = re.escape(next(name for name in plain.non_trainable_names if "kernel" in name))
    lora = models.Lora(ranks=(2,), alpha=2 * SCALE, targets=f"^{target}", freeze_a=freeze_a, seed=1)
    return models.functional_model(plain.keras_model, plain.objective, plain.input_spec[0], trainable="lora", lora=lora)


def split(weights):
    """(H, c, A, B) and what is frozen, (W, b), of the model's weights as float64, by their shapes."""
    arrays = [np.asarray(w, np.float64) for w in weights]
    by_shape = {w.shape: w for w in arrays}
    return {name: by_shape[shape] for name, shape in SHAPES.items() if shape in by_shape}


SHAPES = {"H": (5, 3), "c": (3,), "A": (5, 2), "B": (2, 5), "W": (5, 5), "b": (5,)}


def gradients(frozen, parts, x, y):
    """Of the loss at base + sum of share * adapter, for each (share, weights) of `parts`, by these weights."""
    kernel = frozen["W"] + sum(share * SCALE * w["A"] @ w["B"] for share, w in parts)
    head, bias = (sum(share * w[name] for share, w in parts) for name in "Hc")
    hidden = x @ kernel + frozen["b"]
    logits = hidden @ head + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    slope = (p / p.sum(1, keepdims=True) - np.eye(3)[y]) / len(x)
    by_kernel = x.T @ slope @ head.T
    return [
        {
            "H": share * hidden.T @ slope,
            "c": share * slope.sum(0),
            "A": share * SCALE * by_kernel @ w["B"].T,
            "B": share * SCALE * w["A"].T @ by_kernel,
        }
        for share, w in parts
    ]


def step(weights, slopes):
    return {name: w - RATE * slopes[name] for name, w in weights.items()}


def by_hand(alpha, passes):
    """(shared weights, own ones by client) after the rounds, of one batch a client; float64."""
    trainable, others = model().initial_weights
    w, frozen, own = split(trainable), split(others), {}
    for clients in ROUNDS:
        total = {name: 0 for name in w}
        for client in clients:
            v = own.get(client, w)
            for _ in range(passes):
                v = step(v, gradients(frozen, [(1 - alpha, w), (alpha, v)], *DATA[client])[1])
            own[client], after = v, step(w, gradients(frozen, [(1, w)], *DATA[client])[0])
            total = {name: total[name] + SIZES[client] * (w[name] - after[name]) for name in w}
        w = {name: w[name] - total[name] / sum(SIZES[client] for client in clients) for name in w}
    return w, own


def trained(directory, build=algorithms.build_fed_dpa_t, **parts):
    """(engine, shared weights, the leaves of own ones by client)."""
    store = cohorts.ClientStore(str(directory / "personal"), 10)
    has_state = build is not algorithms.build_fed_avg and build is not algorithms.build_fed_dpa_f
    hooks = [RetainedState(store)] if has_state else []
    engine = LocalEngine(named(build(model(), dataclasses.replace(OPTIONS, **parts))), hooks=hooks)
    shared = process_state(run(engine)).global_model_weights.trainable
    states = {c: store.read(str(c), len(ROUNDS))[1:] for c in range(4)} if has_state else {}
    return engine, shared, states


@pytest.mark.parametrize(("alpha", "passes"), [(0.5, 2), pytest.param(0.3, 1, marks=pytest.mark.slow)])
def test_both_adapters_equal_numpy(alpha, passes, tmp_path):
    _, shared, states = trained(tmp_path / "dpa", mixing=alpha, personal_epochs=passes)
    w, own = by_hand(alpha, passes)
    for found, expected in [(shared, w), *((states[c], own[c]) for c in own)]:
        found = split(found)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
    assert max(np.abs(own[c][name] - w[name]).max() for c in own for name in w) > 0.01


@pytest.mark.slow
def test_the_shared_adapter_alone_is_sent_and_is_that_of_fed_avg(tmp_path):
    """With alpha 1 an own adapter is trained without the shared one, as with Ditto that does not pull it."""
    engine, shared, found = trained(tmp_path / "dpa", mixing=1.0)
    _, _, expected = trained(tmp_path / "ditto", algorithms.build_ditto, personal_strength=0.0)
    for client in expected:
        for a, b in zip(found[client], expected[client]):
            np.testing.assert_allclose(a, b, atol=1e-6)
    _, after, _ = trained(tmp_path / "after", algorithms.build_fed_dpa_f)
    plain, alone, _ = trained(tmp_path / "avg", algorithms.build_fed_avg)
    for a, b, c in zip(after, alone, shared):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, b)
    assert engine.traffic().upload_bytes == pytest.approx(plain.traffic().upload_bytes, abs=16)


@pytest.mark.parametrize("freeze_a", [False, True])
def test_adapters_are_added_up_by_their_share(freeze_a):
    """With share 0 it is the shared model, with 1 the own one, and between them adapted weights are in between."""
    adapted, rng = model(freeze_a), np.random.default_rng(0)
    trainable, others = adapted.initial_weights
    shared, own = ([rng.normal(size=w.shape).astype(np.float32) for w in trainable] for _ in range(2))
    x = {"x": rng.normal(size=[4, 5]).astype(np.float32), "seed": np.zeros(2, np.int64)}

    def logits(weights, share=None):
        if share is None:
            return adapted.predict_on_batch((tuple(weights), others), x, training=False)
        dual = models.DualAdapters(adapted, share)
        return dual.predict_on_batch((tuple(weights), (*others, *shared)), x, training=False)

    np.testing.assert_allclose(logits(own, 0.0), logits(shared), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits(own, 1.0), logits(own), rtol=1e-4, atol=1e-4)
    found = [split([*w, *others]) for w in (shared, own)]
    kernel = found[0]["W"] + sum(a * SCALE * w["A"] @ w["B"] for a, w in zip((0.7, 0.3), found))
    head, bias = (0.7 * found[0][name] + 0.3 * found[1][name] for name in "Hc")
    expected = (x["x"] @ kernel + found[0]["b"]) @ head + bias
    np.testing.assert_allclose(logits(own, 0.3), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("build", [algorithms.build_fed_dpa_t, algorithms.build_fed_dpa_f])
def test_a_model_without_adapters_is_rejected(build):
    with pytest.raises(UserError, match=r"the model has none: set model\.trainable=lora"):
        build(tiny.linear_model(), OPTIONS)
