"""What clients retain between rounds, of an algorithm whose client work takes and returns a state, against NumPy."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.runtime.test_hooks import DATA, OPTIONS, RATE, SIZES, cohort, feedback, gradient, named
from tff_tx import cohorts
from tff_tx.aggregators import compression
from tff_tx.algorithms import client
from tff_tx.runtime import LocalEngine, RayEngine, RetainedState, Staleness, TooFewClientsError, process_state

ROUNDS = [[0, 1], [2, 0], [3, 1, 2], [0, 3]]

pytestmark = pytest.mark.usefixtures("compiled_once")


def client_update(one, batches, rate):
    """v <- (v + w_t - eta grad F(w_t)) / 2, with v = w_t at first; send w_t - v."""

    def step(learned, gradients, examples):
        del examples
        return (tuple(w - rate * g for w, g in zip(learned[0], gradients)),)

    (trained,), seen = one.train(batches, (one.server,), step)
    own = tf.nest.map_structure(lambda v, w: (v + w) / 2, one.state, trained)
    return one.result(tf.nest.map_structure(tf.subtract, one.server, own), seen, own)


def by_hand(rounds=ROUNDS):
    """The server's weights after the rounds, float64 [18], and each client's v."""
    w, own = np.ones(18), {}
    for clients in rounds:
        for k in clients:
            own[k] = (own.get(k, w) + w - RATE * gradient(w, *DATA[k])) / 2
        w = w - sum(SIZES[k] * (w - own[k]) for k in clients) / sum(SIZES[k] for k in clients)
    return w, own


@functools.cache
def process():
    model = tiny.linear_model()
    work = client.build_client_work(model, OPTIONS, client_update, client_state=lambda one: one.server)
    return named(client.compose(model, OPTIONS, work))


def store(directory):
    return cohorts.ClientStore(str(directory / "states"), 10)


def run(directory, rounds=ROUNDS, state=None, start=0, **options):
    with LocalEngine(process(), hooks=[RetainedState(store(directory))]) as engine:
        state = engine.initialize() if state is None else state
        for round_num, clients in enumerate(rounds, start + 1):
            state = engine.run_round(state, arguments(clients, round_num), **options).state
    return state


def arguments(clients, round_num):
    return cohort([(k, 0) for k in clients], round_num, stale=False)


def flat(leaves):
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def weights(state):
    return flat(process_state(state).global_model_weights.trainable)


def test_the_state_of_the_last_round_equals_numpy(tmp_path):
    state = run(tmp_path)
    expected, own = by_hand()
    np.testing.assert_allclose(weights(state), expected, atol=1e-6)
    for k, v in own.items():
        rounds, *retained = store(tmp_path).read(str(k), len(ROUNDS))
        np.testing.assert_allclose(flat(retained), v, atol=1e-6)
        assert rounds == sum(k in clients for clients in ROUNDS)


def test_a_resumed_run_finds_the_states_of_its_round(tmp_path):
    whole = run(tmp_path / "whole")
    first = run(tmp_path / "killed", ROUNDS[:2])
    run(tmp_path / "killed", ROUNDS[2:], first, 2)  # is lost
    with pytest.raises(TooFewClientsError):
        run(tmp_path / "killed", ROUNDS[2:], first, 2, min_clients=9)
    again = run(tmp_path / "killed", ROUNDS[2:], first, 2)
    np.testing.assert_array_equal(weights(whole), weights(again))
    for k in range(4):
        expected, found = (store(tmp_path / name).read(str(k), len(ROUNDS)) for name in ("whole", "killed"))
        tf.nest.map_structure(np.testing.assert_array_equal, expected, found)


def test_a_state_is_neither_sent_nor_added_up(tmp_path):
    """Not with other hooks either: of what is of the model's shape, the update alone is compressed."""
    sent, added = [], []
    hooks = [Staleness(1), RetainedState(store(tmp_path)), feedback(tmp_path, compression.TopK(1.0))]
    with LocalEngine(process(), hooks=hooks, encode=lambda leaves: sent.append(leaves) or b"") as engine:
        traffic, state = engine.traffic(), engine.initialize()
        for round_num, clients in enumerate(ROUNDS[:2], 1):
            arrivals = cohort([(k, 0) for k in clients], round_num)
            output = engine.run_round(state, arrivals, on_contribution=lambda _, leaves: added.append(leaves))
            state = output.state
    np.testing.assert_allclose(weights(state), by_hand(ROUNDS[:2])[0], atol=1e-6)
    own = {leaf.tobytes() for k in range(3) for leaf in store(tmp_path).read(str(k), 2)[1:]}
    for leaves in sent + added:
        assert not {np.asarray(leaf).tobytes() for leaf in leaves} & own
    assert traffic.download_bytes == (18 + 1) * 4  # and the rate
    assert traffic.upload_bytes < 2 * 18 * 4


@pytest.mark.slow
@pytest.mark.cluster
def test_on_a_cluster_a_state_goes_to_whoever_trains_the_client(tmp_path):
    with RayEngine(process(), threads=2, hooks=[RetainedState(store(tmp_path))]) as engine:
        state = engine.initialize()
        for round_num, clients in enumerate(ROUNDS, 1):
            state = engine.run_round(state, arguments(clients, round_num)).state
    np.testing.assert_allclose(weights(state), by_hand()[0], atol=1e-6)
    assert store(tmp_path).read("0", len(ROUNDS))[0] == 3
