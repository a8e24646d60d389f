"""Personal weights: FedPer against NumPy, what of them the server sees, and their way from round to round."""

import collections
import dataclasses
import functools

import numpy as np
import pytest

from tests import tiny
from tests.runtime.test_hooks import DATA, OPTIONS, RATE, SIZES, cohort, gradient, named
from tff_tx import algorithms, cohorts, models
from tff_tx.aggregators import compression
from tff_tx.core.errors import UserError
from tff_tx.runtime import ClientCompression, LocalEngine, PersonalWeights, Staleness, process_state

ROUNDS = [[0, 1], [2, 0], [3, 1, 2], [0, 3]]

pytestmark = pytest.mark.usefixtures("compiled_once")


@functools.cache
def model():
    """Softmax regression with the bias as personal weights."""
    plain = tiny.linear_model()
    return models.functional_model(plain.keras_model, plain.objective, plain.input_spec[0], personal="layers:bias")


def by_hand(rounds=ROUNDS, passes=None):
    """FedPer with one step a client: the kernel that all share, and each client's bias; float64.

    With passes, FedRep: so many steps on the bias, then one on the kernel.
    """
    kernel, biases = np.ones(15), collections.defaultdict(lambda: np.ones(3))
    for clients in rounds:
        total = np.zeros(15)
        for client in clients:
            x, y = DATA[client]
            for _ in range(passes or 0):
                biases[client] = biases[client] - RATE * gradient(np.concatenate([kernel, biases[client]]), x, y)[15:]
            step = RATE * gradient(np.concatenate([kernel, biases[client]]), x, y)
            total += SIZES[client] * step[:15]
            if passes is None:
                biases[client] = biases[client] - step[15:]
        kernel = kernel - total / sum(SIZES[client] for client in clients)
    return kernel, biases


@functools.cache
def process(build=algorithms.build_fed_avg, **parts):
    return named(build(model(), dataclasses.replace(OPTIONS, **parts)))


def hook(directory):
    return PersonalWeights(cohorts.ClientStore(str(directory / "personal"), 10))


def arguments(clients, round_num):
    return cohort([(client, 0) for client in clients], round_num, stale=False)


def run(engine, rounds=tuple(ROUNDS), state=None, start=0):
    with engine:
        state = engine.initialize() if state is None else state
        for round_num, clients in enumerate(rounds, start + 1):
            state = engine.run_round(state, arguments(clients, round_num)).state
    return state


def weights(state):
    """(shared, what clients begin with)."""
    found = process_state(state).global_model_weights
    return np.ravel(found.trainable[0]), np.ravel(found.non_trainable[0])


def stored(directory, round_num=4):
    store = cohorts.ClientStore(str(directory / "personal"), 10)
    return {c: store.read(str(c), round_num) for c in range(4)}


def test_fed_per_equals_numpy(tmp_path):
    state = run(LocalEngine(process(), hooks=[hook(tmp_path)]))
    kernel, biases = by_hand()
    np.testing.assert_allclose(weights(state)[0], kernel, atol=1e-6)
    np.testing.assert_array_equal(weights(state)[1], np.ones(3))
    for client, (bias,) in stored(tmp_path).items():
        np.testing.assert_allclose(bias, biases[client], atol=1e-6)
    assert np.abs(biases[0] - biases[3]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("passes", [0, 1, 3])
def test_fed_rep_equals_numpy(tmp_path, passes):
    """With no pass over the personal weights it is FedAvg of the others."""
    state = run(LocalEngine(process(algorithms.build_fed_rep, personal_epochs=passes), hooks=[hook(tmp_path)]))
    kernel, biases = by_hand(passes=passes)
    np.testing.assert_allclose(weights(state)[0], kernel, atol=1e-6)
    for client, (bias,) in stored(tmp_path).items():
        np.testing.assert_allclose(bias, biases[client], atol=1e-6)
    assert np.ptp(biases[0]) > 1e-2 or not passes


def stateless_by_hand(passes):
    """FedRecon with so many passes over the support half of a client's batch, or with None FedBABU; float64."""
    kernel = np.ones(15)
    for clients in ROUNDS:
        total, weight = np.zeros(15), 0
        for client in clients:
            x, y = DATA[client]
            half, bias = -(-len(y) // 2) if passes else 0, np.ones(3)
            for _ in range(passes or 0):
                bias = bias - RATE * gradient(np.concatenate([kernel, bias]), x[:half], y[:half])[15:]
            step = RATE * gradient(np.concatenate([kernel, bias]), x[half:], y[half:])
            total, weight = total + len(y[half:]) * step[:15], weight + len(y[half:])
        kernel = kernel - total / weight
    return kernel


@pytest.mark.slow
@pytest.mark.parametrize(("build", "passes"), [("build_fed_babu", None), ("build_fed_recon", 2)])
def test_clients_without_a_state_equal_numpy(build, passes):
    """What they train of their own is neither stored nor sent, and all begin with the same in each round."""
    built = process(getattr(algorithms, build), personal_epochs=passes or 1)
    state = run(engine := LocalEngine(built))
    np.testing.assert_allclose(weights(state)[0], stateless_by_hand(passes), atol=1e-6)
    np.testing.assert_array_equal(weights(state)[1], np.ones(3))
    assert engine.traffic().upload_bytes == LocalEngine(process()).traffic().upload_bytes


@functools.cache
def process_without():
    """With nothing personal, and otherwise as `process`."""
    parts = dataclasses.replace(OPTIONS, transforms=(algorithms.proximal(1e-9),))
    return named(algorithms.build_fed_avg(tiny.linear_model(), parts))


def test_what_leaves_a_client_has_no_personal_weights(tmp_path):
    class Observed(PersonalWeights):
        observes = True

        def bind(self, engine):
            super().bind(engine)
            self.contributions = []

        def on_counted(self, position, contribution):
            self.contributions.append(contribution)

    sent, observed = [], Observed(cohorts.ClientStore(str(tmp_path / "personal"), 10))
    with LocalEngine(process(), hooks=[observed], encode=lambda leaves: sent.append(leaves) or b"") as engine:
        engine.run_round(engine.initialize(), arguments([0, 1], 1))
        traffic = engine.traffic()
    with LocalEngine(process_without()) as engine:
        assert traffic.upload_bytes == engine.traffic().upload_bytes - 3 * 4
        assert traffic.download_bytes == engine.traffic().download_bytes - 3 * 4
    assert [sum(leaf.nbytes for leaf in leaves) for leaves in sent] == [traffic.upload_bytes] * 2
    own = [leaf.tobytes() for store in stored(tmp_path).values() if store for leaf in store]
    for contribution in observed.contributions:
        assert not {np.asarray(leaf).tobytes() for leaf in contribution} & set(own)


def test_other_hooks_see_the_shared_update(tmp_path):
    """A stale client with a code and error feedback, beside the same without personal weights."""
    hooks = [Staleness(1), hook(tmp_path), ClientCompression(compression.TopK(1.0))]
    with LocalEngine(process(), hooks=hooks) as engine:
        state = engine.run_round(engine.initialize(), cohort([(0, 0), (1, 0)], 1)).state
    np.testing.assert_allclose(weights(state)[0], by_hand(ROUNDS[:1])[0], atol=1e-6)
    np.testing.assert_allclose(stored(tmp_path, 1)[1][0], by_hand(ROUNDS[:1])[1][1], atol=1e-6)


@pytest.mark.parametrize(
    ("personal", "sentence"),
    [
        ("layers:nowhere", "there are no such weights among those that are trained"),
        ("layers:.", "clients share nothing"),
        ("heads", "must be one of head, norms, layers:RE"),
        ("layers:(", "is no regular expression"),
    ],
)
def test_a_choice_that_cannot_be_is_rejected(personal, sentence):
    plain = tiny.linear_model()
    with pytest.raises(UserError, match=sentence):
        models.functional_model(plain.keras_model, plain.objective, plain.input_spec[0], personal=personal)


def test_a_resumed_run_finds_the_weights_of_its_round(tmp_path):
    whole = run(LocalEngine(process(), hooks=[hook(tmp_path / "whole")]))
    first = run(LocalEngine(process(), hooks=[hook(tmp_path / "killed")]), ROUNDS[:2])
    run(LocalEngine(process(), hooks=[hook(tmp_path / "killed")]), ROUNDS[2:], first, 2)  # is lost
    again = run(LocalEngine(process(), hooks=[hook(tmp_path / "killed")]), ROUNDS[2:], first, 2)
    np.testing.assert_array_equal(weights(whole)[0], weights(again)[0])
    for client, arrays in stored(tmp_path / "whole").items():
        np.testing.assert_array_equal(arrays, stored(tmp_path / "killed")[client])
