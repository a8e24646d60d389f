"""Attacks: who, on which data, with which updates; against NumPy, in the engines, and without a trace of them in honest
clients."""

import collections
import statistics

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import algorithms, tasks
from tff_tx.analysis import attacks
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine, NativeEngine

pytestmark = pytest.mark.usefixtures("compiled_once")

IDS = [f"client{i}" for i in range(20)]


def options(attack=None, **fields):
    return algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        wrap_client_work=attack.wrap_client_work if attack is not None and attack.update is not None else None,
        **fields,
    )


@pytest.fixture(scope="module")
def task(digits_task):
    return tiny.linear_digits_task(digits_task)


def build(task, attack, attackers):
    learning_process = algorithms.build_fed_avg(task.model, options(attack))
    return attacks.simulate(task, learning_process, attack, attackers)


def change(engine, task, names, round_num=1, state=None):
    """What a round changes in the model, as a vector, and the new state."""
    state = engine.initialize() if state is None else state
    output = engine.run_round(state, tasks.client_arguments(names, 1, round_num))
    before, after = tiny.weights_of(state), tiny.weights_of(output.state)
    return np.concatenate([(b - a).ravel() for a, b in zip(after, before)]), output.state


@pytest.fixture(scope="module")
def honest(task):
    """From names of clients to what a first round of them changes without attackers."""
    process = task.process(algorithms.build_fed_avg(task.model, options()))
    with LocalEngine(process, threads=1) as engine:
        yield lambda *names: change(engine, task, names)[0]


def test_attackers_are_a_share_decided_by_the_seed():
    first = attacks.choose_attackers(IDS, 0.3, seed=1)
    assert len(first) == 6
    assert set(first) < set(IDS)
    assert first == sorted(first, key=IDS.index)
    assert attacks.choose_attackers(IDS, 0.3, seed=1) == first
    assert attacks.choose_attackers(IDS, 0.3, seed=2) != first
    assert attacks.choose_attackers(IDS, 0.0, seed=1) == []
    assert attacks.choose_attackers(IDS, 1.0, seed=1) == IDS
    with pytest.raises(ValueError, match="share=1.1"):
        attacks.choose_attackers(IDS, 1.1, seed=1)


def test_flipped_labels():
    x, y = attacks.LabelFlip(10).poison("x", tf.constant([0, 3, 9, -100]))
    assert x == "x"
    assert y.numpy().tolist() == [9, 6, 0, -100]


def picture_batch(rng):
    x = collections.OrderedDict(pixel_values=tf.constant(rng.random([5, 2, 4, 4]), tf.float32), seed=tf.zeros([2]))
    return x, tf.constant([3, 1, 4, 1, 5])


def test_a_backdoor_in_pictures(rng):
    x, y = picture_batch(rng)
    backdoor = attacks.Backdoor(attacks.pixel_trigger(2, value=7.0), target=1, share=0.5)
    wanted = x["pixel_values"].numpy().copy()
    wanted[:, :, 2:, 2:] = 7.0
    poisoned, labels = backdoor.poison(x, y)
    np.testing.assert_array_equal(poisoned["pixel_values"][:3], wanted[:3])
    np.testing.assert_array_equal(poisoned["pixel_values"][3:], x["pixel_values"][3:])
    assert labels.numpy().tolist() == [1, 1, 1, 1, 5]
    trapped, labels = backdoor.trap(x, y)
    np.testing.assert_array_equal(trapped["pixel_values"], wanted)
    assert labels.numpy().tolist() == [1, -100, 1, -100, 1]
    assert set(poisoned) == set(trapped) == set(x)


def test_a_backdoor_in_texts():
    """The words after the first token; padding stays padding."""
    x = collections.OrderedDict(
        attention_mask=tf.constant([[1, 1, 1, 1], [1, 1, 0, 0]]), input_ids=tf.constant([[2, 5, 6, 3], [2, 3, 0, 0]])
    )
    trapped, _ = attacks.Backdoor(attacks.text_trigger([8, 9]), target=0).trap(x, tf.constant([1, 0]))
    assert trapped["input_ids"].numpy().tolist() == [[2, 8, 9, 3], [2, 8, 0, 0]]
    at_start, _ = attacks.Backdoor(attacks.text_trigger([8, 9], start=0), target=0).trap(x, tf.constant([1, 0]))
    assert at_start["input_ids"].numpy().tolist() == [[8, 9, 6, 3], [8, 9, 0, 0]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "factor"),
    [
        (attacks.SignFlip(2.0), -2.0),
        (attacks.ModelReplacement(5.0), 5.0),
        (attacks.FreeRider(), 0.0),
    ],
)
def test_an_attacker_sends_a_multiple_and_others_what_they_have(task, honest, attack, factor):
    attacker, other = task.train.client_ids[:2]
    with LocalEngine(build(task, attacks.Attack(update=attack), [attacker]), threads=1) as engine:
        forged, _ = change(engine, task, [attacker])
        np.testing.assert_allclose(forged, factor * honest(attacker), atol=1e-6)
        np.testing.assert_allclose(change(engine, task, [other])[0], honest(other), atol=1e-7)


@pytest.mark.slow
def test_engines_agree_on_who_attacks(task):
    names = task.train.client_ids[:3]
    process = build(task, attacks.Attack(update=attacks.GaussianUpdate(0.1)), names[:1])
    with LocalEngine(process, threads=2) as local, NativeEngine(process) as native:
        np.testing.assert_allclose(change(local, task, names)[0], change(native, task, names)[0], atol=1e-6)
        noise, _ = change(local, task, names[:1])
        again, _ = change(local, task, names[:1])
        later, _ = change(local, task, names[:1], round_num=2)
    np.testing.assert_array_equal(noise, again)
    assert np.corrcoef(noise, later)[0, 1] < 0.2
    assert np.std(noise) == pytest.approx(0.1, rel=0.15)
    assert abs(np.mean(noise)) < 0.02


def test_poisoned_data_are_the_attackers_alone(task, honest):
    attacker, other = task.train.client_ids[:2]
    with LocalEngine(build(task, attacks.Attack(data=attacks.LabelFlip(10)), [attacker]), threads=1) as engine:
        assert np.abs(change(engine, task, [attacker])[0] - honest(attacker)).max() > 0.01
        np.testing.assert_allclose(change(engine, task, [other])[0], honest(other), atol=1e-7)


@pytest.mark.parametrize("omniscient", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_little_is_enough_sends_what_the_round_before_tells(task, honest, omniscient):
    """First what they have computed; then mean - z * deviation over those that they know, each sending the same."""
    names = list(task.train.client_ids[:3])
    attack = attacks.Attack(update=attacks.LittleIsEnough(z=1.5, omniscient=omniscient))
    known = np.array([honest(name) for name in (names if omniscient else names[:2])], np.float64)
    with LocalEngine(build(task, attack, names[:2]), threads=1) as engine:
        first, state = change(engine, task, names)
        np.testing.assert_allclose(first, honest(*names), atol=1e-6)
        forged, after = change(engine, task, names[:1], 2, state)
        np.testing.assert_allclose(forged, known.mean(0) - 1.5 * known.std(0), atol=3e-4)
        if not omniscient:
            forged, _ = change(engine, task, names[1:2], 3, after)  # one attacker had no spread: it knows what it knew
            np.testing.assert_allclose(forged, known.mean(0) - 1.5 * known.std(0), atol=3e-4)


def test_how_little_is_enough():
    """Of 50 with 24 attackers 2 supporters are needed: the quantile 24 / 26."""
    assert attacks.little_is_enough_z(50, 24) == pytest.approx(statistics.NormalDist().inv_cdf(24 / 26))
    assert attacks.little_is_enough_z(50, 24) == pytest.approx(1.426, abs=1e-3)
    with pytest.raises(ValueError, match="25 attackers are not less than half of 50"):
        attacks.little_is_enough_z(50, 25)


@pytest.mark.slow
def test_attackers_of_fed_sgd_forge_their_gradient(task):
    attack, names = attacks.Attack(update=attacks.SignFlip(2.0)), task.train.client_ids[:2]
    changes = []
    for attackers in ([], names[:1]):
        process = attacks.simulate(task, algorithms.build_fed_sgd(task.model, options(attack)), attack, attackers)
        with LocalEngine(process, threads=1) as engine:
            changes.append([change(engine, task, [name])[0] for name in names])
    (honest, other), (forged, same) = changes
    assert np.abs(honest).max() > 1e-3
    np.testing.assert_allclose(forged, -2.0 * honest, atol=1e-6)
    np.testing.assert_array_equal(same, other)


def test_mime_lite_whose_clients_also_send_a_gradient_cannot_attack(task):
    attack = attacks.Attack(update=attacks.SignFlip())
    with pytest.raises(UserError, match="an attack on updates cannot be combined with Mime Lite: its clients send"):
        algorithms.build_mime_lite(task.model, options(attack))
