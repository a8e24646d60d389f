"""Digits with Dirichlet(0.1): control variates need fewer rounds than FedAvg to the same loss."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from sklearn import datasets

from tests import tiny
from tff_tx import algorithms, cohorts
from tff_tx.runtime import LocalEngine, RetainedState

CLIENTS, EPOCHS, BATCH, RATE, TARGET = 8, 5, 32, 0.3, 0.4


def shares(seed=0):
    """The clients' examples: float64 [n, 64], int32 [n] each."""
    x, y = datasets.load_digits(return_X_y=True)
    rng, owners = np.random.default_rng(seed), np.empty(len(y), int)
    for label in range(10):
        owners[y == label] = rng.choice(CLIENTS, (y == label).sum(), p=rng.dirichlet([0.1] * CLIENTS))
    return [(x[owners == k] / 16, y[owners == k].astype(np.int32)) for k in range(CLIENTS)]


def mean_loss(weights, data):
    """Of the clients, equally weighted."""
    kernel, bias = (w.astype(np.float64) for w in weights)
    losses = []
    for x, y in data:
        logits = x @ kernel + bias
        losses.append(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))
    return np.mean(losses)


def rounds_until(name, data, directory, most=20):
    """Rounds of all clients until the mean loss is below `TARGET`."""
    longest = max(len(y) for _, y in data)
    xs, ys = (np.stack([np.resize(part[i], [longest, *part[i].shape[1:]]) for part in data]) for i in (0, 1))

    @tff.tensorflow.computation(collections.OrderedDict(client_id=np.str_))
    def batches(client):
        k = tf.strings.to_number(client["client_id"], tf.int32)
        size = tf.gather(tf.constant([len(y) for _, y in data]), k)
        x, y = tf.gather(tf.constant(xs, tf.float32), k)[:size], tf.gather(tf.constant(ys), k)[:size]
        return tiny.batches(x, y, BATCH).repeat(EPOCHS)

    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=RATE,
        weighted=False,
        num_clients=CLIENTS,
        clients_per_round=CLIENTS,
    )
    algorithm = algorithms.ALGORITHMS[name]
    built = algorithm.build(tiny.linear_model((64,), classes=10), options)
    hooks = [RetainedState(cohorts.ClientStore(str(directory / name), 1))] if algorithm.client_state else []
    process = tff.simulation.compose_dataset_computation_with_learning_process(batches, built)
    with LocalEngine(process, hooks=hooks) as engine:
        state = engine.initialize()
        for round_num in range(1, most + 1):
            cohort = [collections.OrderedDict(client_id=str(k).encode()) for k in range(CLIENTS)]
            state = engine.run_round(state, cohort).state
            if mean_loss(engine.model_weights(state).trainable, data) < TARGET:
                return round_num
    return most + 1


@pytest.mark.slow
def test_control_variates_need_fewer_rounds(tmp_path):
    data = shares()
    found = {name: rounds_until(name, data, tmp_path) for name in ("fed_avg", "scaffold", "fed_dyn")}
    assert found["fed_avg"] <= 20
    assert found["scaffold"] <= found["fed_avg"] * 0.75
    assert found["fed_dyn"] <= found["fed_avg"] * 0.75
