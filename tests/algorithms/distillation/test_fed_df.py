"""FedDF against NumPy, and the laws it keeps."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.algorithms.test_algorithms import assert_close, numpy_gradient, options, start
from tests.algorithms.test_fed_gkd import softmax
from tff_tx import algorithms
from tff_tx.algorithms.distillation import FedDFEngine, Group, assign_groups
from tff_tx.config.algorithm import EnsembleConfig
from tff_tx.core.errors import UserError
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.runtime import LocalEngine, TooFewClientsError

SIZES = (7, 12, 3)
CLIENTS = [tiny.batches(*tiny.client_data(n, seed=i), 4) for i, n in enumerate(SIZES)]
PUBLIC = tiny.client_data(10, seed=9)[0]
pytestmark = pytest.mark.usefixtures("compiled_once")

MODELS = {"plain": {}, "deep": {"frozen": True}, "other": {}}
PAIR = ["plain", "deep"]


def public_batches(round_num):
    """The same in each round, with labels that nothing may depend on."""
    return tiny.batches(PUBLIC, np.full(len(PUBLIC), round_num % 3, np.int32), 5)


@functools.cache
def process(name):
    return algorithms.build_fed_avg(tiny.linear_model(**MODELS[name]), options())


def federation(names, distillation, group_fn=None):
    models = {name: tiny.linear_model(**MODELS[name]) for name in names}
    groups = {name: Group(model, LocalEngine(process(name))) for name, model in models.items()}
    return FedDFEngine(groups, group_fn or (lambda client: names[0]), public_batches, distillation)


def by_position(names):
    """Assigns the clients above to the groups in turn."""
    return lambda client: names[next(i for i, c in enumerate(CLIENTS) if c is client) % len(names)]


def run(engine, clients=CLIENTS, rounds=1):
    state = engine.initialize()
    for _ in range(rounds):
        output = engine.run_round(state, clients)
        state = output.state
    return output


def flat(weights):
    return [np.asarray(w) for w in (*weights.trainable, *weights.non_trainable)]


def predict(name, weights):
    """The logits on public data."""
    x = collections.OrderedDict(x=tf.constant(PUBLIC), seed=tf.zeros([2], tf.int64))
    parts = tuple(weights.trainable), tuple(weights.non_trainable)
    return tiny.linear_model(**MODELS[name]).predict_on_batch(parts, x, training=False).numpy()


def fed_avg(name, clients, rounds):
    with LocalEngine(process(name)) as engine:
        return tiny.weights_of(tiny.run_rounds(engine, clients, rounds).state)


@pytest.mark.slow
def test_without_steps_it_is_fed_avg_in_each_group():
    names = PAIR
    with federation(names, EnsembleConfig(steps=0), by_position(names)) as engine:
        output = run(engine, rounds=2)
        weights = engine.model_weights(output.state)
    assert_close(flat(weights["plain"]), fed_avg("plain", CLIENTS[::2], 2), 0)
    assert_close(flat(weights["deep"]), fed_avg("deep", CLIENTS[1:2], 2), 0)
    assert output.metrics["train/plain"]["num_examples"] == SIZES[0] + SIZES[2]


def numpy_client(i, server):
    """The model that a client makes of the server's: an epoch of SGD."""
    x, y = tiny.client_data(SIZES[i], seed=i)
    local = server
    for first in range(0, SIZES[i], 4):
        gradient = numpy_gradient(*local, x[first : first + 4], y[first : first + 4])
        local = tuple(w - 0.1 * g for w, g in zip(local, gradient))
    return local


def numpy_student(student, teachers, steps, rate):
    """What a linear model becomes by Adam towards the mean logits of teachers, and its losses."""
    student, losses = list(student), []
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in student]
    for step in range(steps):
        x = PUBLIC[:5] if step % 2 == 0 else PUBLIC[5:]
        p = softmax(np.mean([x @ w[0] + w[1] for w in teachers], 0))
        q = softmax(x @ student[0] + student[1])
        losses.append(np.mean((p * np.log(p / q)).sum(1)))
        error = (q - p) / len(x)
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for k, g in enumerate((x.T @ error, error.sum(0))):
            m, v = moments[k]
            moments[k] = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            corrected = now * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            student[k] = student[k] - corrected * m / (np.sqrt(v) + 1e-7)
    return student, losses


def test_a_round_equals_numpy():
    """Lin et al. 2020, Algorithm 1: the mean of the clients' logits, Adam, a cosine, two passes over two batches."""
    steps, rate = 4, 0.05
    clients = [numpy_client(i, start()) for i in range(len(SIZES))]
    mean = [np.average([c[k] for c in clients], 0, weights=SIZES) for k in (0, 1)]
    student, losses = numpy_student(mean, clients, steps, rate)
    with federation(["plain"], EnsembleConfig(steps=steps, learning_rate=rate)) as engine:
        output = run(engine)
        assert_close(flat(engine.model_weights(output.state)["plain"]), student, 2e-4)
    assert output.metrics["distillation"]["loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    assert output.seconds["distillation"] > 0


def test_groups_of_one_client_are_fed_md():
    """Li and Wang 2019, Algorithm 1: revisit, communicate, consensus, digest; each client keeps a model of its own."""
    steps, rate, names = 4, 0.05, ["plain", "other"]
    own = [start(), start()]
    for _ in range(2):
        revisited = [numpy_client(i, model) for i, model in enumerate(own)]
        own = [tuple(numpy_student(model, revisited, steps, rate)[0]) for model in revisited]
    with federation(
        names, EnsembleConfig(steps=steps, learning_rate=rate, teachers="groups"), by_position(names)
    ) as engine:
        found = engine.model_weights(run(engine, CLIENTS[:2], rounds=2).state)
    for name, model in zip(names, own):
        assert_close(flat(found[name]), model, 2e-4)
    assert np.abs(own[0][0] - own[1][0]).max() > 0.01


@pytest.mark.parametrize("teachers", ["clients", pytest.param("groups", marks=pytest.mark.slow)])
def test_models_of_different_architectures_come_to_agree(teachers):
    """On public data; also that of a group without a client in the round, which learns from the others."""
    names = PAIR
    gaps = []
    for steps in (0, 200):
        distillation = EnsembleConfig(steps=steps, learning_rate=0.05, teachers=teachers)
        with federation(names, distillation, lambda client: "plain") as engine:
            weights = engine.model_weights(run(engine).state)
        p, q = (softmax(predict(name, weights[name])) for name in names)
        gaps.append(np.mean((p * np.log(p / q)).sum(1)))
    assert gaps[1] < gaps[0] / 4


def test_a_checkpoint_goes_on_as_if_nothing_had_been(tmp_path):
    names = PAIR
    with federation(names, EnsembleConfig(steps=2), by_position(names)) as engine:
        first = run(engine).state
        checkpoints = Checkpoints(str(tmp_path))
        checkpoints.save(first, 1)
        loaded, round_num = checkpoints.load_latest(engine.initialize())
        assert round_num == 1
        ends = [engine.model_weights(engine.run_round(state, CLIENTS).state) for state in (first, loaded)]
    tf.nest.map_structure(np.testing.assert_array_equal, *ends)


def test_too_few_clients_end_the_round_and_broken_ones_are_told_by_position():
    x, y = tiny.client_data(6, seed=5)
    broken = tiny.batches(np.full_like(x, np.nan), y, 4)
    clients = [CLIENTS[0], broken, CLIENTS[1]]
    names = PAIR
    with federation(names, EnsembleConfig(steps=2), lambda c: names[int(c is broken)]) as engine:
        seen = []
        output = engine.run_round(engine.initialize(), clients, min_clients=2, on_progress=seen.append)
        assert list(output.failures) == [1]
        assert seen == [1, 2, 3]
        with pytest.raises(TooFewClientsError, match="2 of at least 3 clients finished"):
            engine.run_round(engine.initialize(), clients, min_clients=3)


def test_groups_are_even_and_by_the_seed():
    ids = [f"c{i}" for i in range(11)]
    groups = assign_groups(ids, ["a", "b", "c"], seed=1)
    assert sorted(collections.Counter(groups.values()).values()) == [3, 4, 4]
    assert groups == assign_groups(ids, ["a", "b", "c"], seed=1)
    assert groups != assign_groups(ids, ["a", "b", "c"], seed=2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": -1}, "ensemble.steps=-1: must be at least 0"),
        ({"learning_rate": 0.0}, "ensemble.learning_rate=0.0: must be above 0"),
        ({"teachers": "all"}, "ensemble.teachers=all: must be one of clients, groups"),
    ],
)
def test_values_without_meaning_are_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        EnsembleConfig(**fields)


def test_a_single_group_cannot_teach_itself():
    with pytest.raises(UserError, match="ensemble.teachers=groups with a single group"):
        federation(["plain"], EnsembleConfig(teachers="groups"))
