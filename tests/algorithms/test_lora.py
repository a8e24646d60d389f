"""Federated averaging of adapters, against what centralized averaging of the adapted weights would give."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests import tiny
from tff_tx import algorithms, models, runtime
from tff_tx.core.errors import UserError

FEATURES, HIDDEN, CLASSES = 6, 7, 3
SIZES = (8, 24, 16)
EXACT = ("residual", "stack")


pytestmark = pytest.mark.usefixtures("compiled_once")


class Model(tf_keras.Model):
    """x W1 W2, W1 adapted."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(7)
        kernels = [tf_keras.initializers.Constant(rng.normal(size=s)) for s in ([FEATURES, HIDDEN], [HIDDEN, CLASSES])]
        self.query = tf_keras.layers.Dense(HIDDEN, "tanh", kernel_initializer=kernels[0], name="query")
        self.out = tf_keras.layers.Dense(CLASSES, kernel_initializer=kernels[1], name="out")

    def call(self, inputs, training=False):
        return self.out(self.query(inputs["x"]))


def build(ranks=(2,), freeze_a=False, aggregation="average"):
    model = Model()
    model({"x": np.zeros([1, FEATURES], np.float32)})
    spec = collections.OrderedDict(x=tf.TensorSpec([None, FEATURES]), seed=tf.TensorSpec([2], tf.int64))
    if len(ranks) > 1:
        spec[models.RANK] = tf.TensorSpec([], tf.int32)
    lora = models.Lora(ranks=ranks, alpha=4.0, freeze_a=freeze_a, residual=aggregation in EXACT, seed=3)
    return models.functional_model(model, models.classification(), spec, trainable="lora", lora=lora)


def options(**fields):
    return algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("adamw", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=0.2,
        **fields,
    )


def client(k, rank=None):
    x, y = tiny.client_data(SIZES[k], FEATURES, CLASSES, seed=k)
    data = tiny.batches(x, y, 4)
    if rank is None:
        return data
    return data.map(lambda x, y: (collections.OrderedDict(**x, **{models.RANK: tf.constant(rank)}), y))


@functools.cache
def _process(aggregation, **fields):
    """A model and its process, shared by all engines."""
    model = build(aggregation=aggregation, **fields)
    return model, algorithms.build_lora_fed_avg(model, options(), aggregation)


class Run:
    """An engine, and weights as it has them after a round."""

    def __init__(self, aggregation, engine=runtime.LocalEngine, **fields):
        self.model, process = _process(aggregation, **fields)
        self.engine = engine(process, 2)
        self.at = self.model.adapter_positions[0]
        self.ranks = self.model.lora.ranks

    def clients(self):
        return [client(k, self.ranks[k] if len(self.ranks) > 1 else None) for k in range(len(SIZES))]

    def round(self, state, clients):
        return self.engine.run_round(state, clients).state

    def factors(self, state):
        weights = self.engine.model_weights(state)
        part = weights.non_trainable if self.model.lora.freeze_a else weights.trainable
        return part[self.at.a], weights.trainable[self.at.b]

    def change(self, state):
        """R + s A B."""
        a, b = self.factors(state)
        change = self.model.lora.scale * (a @ b)
        if self.at.residual is not None:
            change = change + self.engine.model_weights(state).non_trainable[self.at.residual]
        return change

    def base(self, state):
        weights = self.engine.model_weights(state)
        names = self.model.non_trainable_names
        return [w for n, w in zip(names, weights.non_trainable) if "lora" not in n]


@functools.cache
def rounds(aggregation, **fields):
    """The states after one and two rounds of all clients, and after a second round of each alone."""
    run = Run(aggregation, **fields)
    clients = run.clients()
    with run.engine:
        first = run.round(run.engine.initialize(), clients)
        return run, first, run.round(first, clients), [run.round(first, [c]) for c in clients]


def mean_change(run, alone):
    """What centralized averaging gives: the mean of the clients' own weights, by their examples."""
    return np.average([run.change(state) for state in alone], axis=0, weights=SIZES)


CASES = {"residual": {}, "stack": {}, "average": {"freeze_a": True}, "svd": {"ranks": (6,)}}


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", CASES)
def test_exact_methods_equal_centralized_averaging(aggregation):
    run, first, second, alone = rounds(aggregation, **CASES[aggregation])
    expected = mean_change(run, alone)
    assert np.abs(run.change(second) - run.change(first)).max() > 0.1
    assert np.std([run.change(state) for state in alone], axis=0).max() > 0.1
    np.testing.assert_allclose(run.change(second), expected, atol=2e-5)


def test_averaging_factors_does_not():
    run, _, second, alone = rounds("average")
    assert np.abs(run.change(second) - mean_change(run, alone)).max() > 0.01
    for got, parts in zip(run.factors(second), zip(*(run.factors(state) for state in alone))):
        np.testing.assert_allclose(got, np.average(parts, axis=0, weights=SIZES), atol=1e-5)


def test_the_residual_leaves_factors_averaged():
    run, _, second, alone = rounds("residual")
    for got, parts in zip(run.factors(second), zip(*(run.factors(state) for state in alone))):
        np.testing.assert_allclose(got, np.average(parts, axis=0, weights=SIZES), atol=1e-5)


def test_stacking_begins_anew():
    run, first, second, _ = rounds("stack")
    (a1, b1), (a2, b2) = run.factors(first), run.factors(second)
    assert not np.any(b1)
    assert not np.any(b2)
    assert np.abs(a1).max() <= FEATURES**-0.5
    assert np.abs(a1 - a2).max() > 0.1


@pytest.mark.parametrize(("aggregation", "fields"), [("residual", {}), ("average", {"freeze_a": True})])
def test_base_weights_never_change(aggregation, fields):
    run, _, second, _ = rounds(aggregation, **fields)
    base = [w for n, w in zip(run.model.non_trainable_names, run.model.initial_weights[1]) if "lora" not in n]
    assert len(base) == 2
    for before, after in zip(base, run.base(second)):
        np.testing.assert_array_equal(before, after)


RANKS = (1, 2, 4)


def test_hetlora_pads_with_zeros_and_weighs_by_norms():
    run, _, second, alone = rounds("average", ranks=RANKS)
    factors = [run.factors(state) for state in alone]
    for (a, b), rank in zip(factors, RANKS):
        np.testing.assert_allclose(a[:, rank:], 0, atol=1e-6)
        np.testing.assert_allclose(b[rank:], 0, atol=1e-6)
        assert np.all(np.linalg.norm(a[:, :rank], axis=0) > 0.1)
    norms = [np.linalg.norm(a @ b) for a, b in factors]
    for got, parts in zip(run.factors(second), zip(*factors)):
        np.testing.assert_allclose(got, np.average(parts, axis=0, weights=norms), atol=1e-5)


def test_flexlora_is_the_best_of_its_rank():
    """Clients' own weights are of their rank, so what a client alone leaves is exactly its own."""
    run, first, second, alone = rounds("svd", ranks=RANKS)
    u, s, v = np.linalg.svd(mean_change(run, alone))
    best = (u[:, :4] * s[:4]) @ v[:4]
    assert s[4] > 1e-3
    np.testing.assert_allclose(run.change(second), best, atol=1e-5)
    a, b = run.factors(first)
    np.testing.assert_allclose(a.T @ a, np.eye(4), atol=1e-5)
    assert np.all(np.diff(np.linalg.norm(b, axis=1)) < 0)  # a client of a smaller rank gets the largest
    for state, rank in zip(alone, RANKS):
        assert np.linalg.matrix_rank(run.change(state), tol=1e-4) <= rank


def test_the_native_runtime_gives_the_same():
    run, first, second, _ = rounds("svd", ranks=RANKS)
    native = Run("svd", runtime.NativeEngine, ranks=RANKS)
    with native.engine as engine:
        state = engine.run_round(engine.initialize(), native.clients()).state
        state = engine.run_round(state, native.clients()).state
        np.testing.assert_allclose(native.change(state), run.change(second), atol=1e-4)


def test_clients_send_factors_only():
    run, *_ = rounds("residual")
    traffic = run.engine.traffic()
    sent = sum(w.nbytes for w in run.model.initial_weights[0])
    residual = 4 * FEATURES * HIDDEN
    assert sent <= traffic.upload_bytes < sent + 100
    assert sent + residual <= traffic.download_bytes < sent + residual + 100
    frozen, *_ = rounds("average", freeze_a=True)
    sent = sum(w.nbytes for w in frozen.model.initial_weights[0])
    assert sent <= frozen.engine.traffic().download_bytes < sent + 100


@pytest.mark.parametrize(
    ("fields", "aggregation", "sentence"),
    [
        ({"freeze_a": True}, "svd", "lora.aggregation=svd has no effect with lora.freeze_a"),
        ({}, "residual", "lora.aggregation=residual needs a model with Lora.residual"),
        ({}, "mean", "lora.aggregation=mean: must be one of average, residual, stack, svd"),
    ],
)
def test_what_does_not_fit_is_refused(fields, aggregation, sentence):
    with pytest.raises(UserError, match=sentence):
        algorithms.build_lora_fed_avg(build(**fields), options(), aggregation)


def test_a_model_without_adapters_is_refused():
    with pytest.raises(UserError, match="needs adapters, and the model has none"):
        algorithms.build_lora_fed_avg(tiny.linear_model(), options())
