"""The cut through a client's work changes nothing but the speed, and the form of a round travels."""

import functools
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

from tests import tiny
from tff_tx import algorithms, models
from tff_tx.runtime import LocalEngine
from tff_tx.runtime.client_work import ClientWork
from tff_tx.runtime.form import RoundForm
from tff_tx.runtime.internals.calls import StepOptions

LOOPS = tff.learning.LoopImplementation
OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("adam", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)


pytestmark = pytest.mark.usefixtures("compiled_once")


@functools.cache
def linear_process(build):
    return build(tiny.linear_model(), OPTIONS)


def clients(count=3, shape=(5,)):
    return [tiny.batches(*tiny.client_data(12 + n, seed=n), batch_size=5) for n in range(count)]


def fed_avg(model, loop):
    return tff.learning.algorithms.build_weighted_fed_avg(
        model, OPTIONS.client_optimizer, OPTIONS.server_optimizer, loop_implementation=loop
    )


def work_of(process):
    return ClientWork(RoundForm.of(process).graph("work"), StepOptions())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "loops"), [(algorithms.build_fed_avg, 1), (algorithms.build_fed_sgd, 1), (algorithms.build_mime_lite, 2)]
)
def test_every_loop_over_batches_is_found(build, loops):
    assert work_of(linear_process(build)).num_loops == loops


@pytest.mark.slow
def test_cut_and_whole_give_the_same():
    """TFF's other loop, an iterator inside of the graph, cannot be cut: the work runs as a whole."""
    model = tiny.linear_model(dropout=0.5)
    assert work_of(fed_avg(model, LOOPS.DATASET_ITERATOR)).num_loops == 0
    outputs = []
    for loop in (LOOPS.DATASET_REDUCE, LOOPS.DATASET_ITERATOR):
        with LocalEngine(fed_avg(model, loop)) as engine:
            outputs.append(tiny.run_rounds(engine, clients(), rounds=2))
    tf.nest.map_structure(
        lambda cut, whole: np.testing.assert_allclose(cut, whole, rtol=1e-6),
        tiny.weights_of(outputs[0].state),
        tiny.weights_of(outputs[1].state),
    )


def address(tensor):
    return np.asarray(memoryview(tensor)).ctypes.data


def test_frozen_weights_are_never_copied():
    """They are the same memory in the state before a round, after it, and in the loop of each client."""
    frozen = tf_keras.layers.Dense(400, trainable=False)
    keras_model = tf_keras.Sequential([tf_keras.layers.Input([5]), frozen, tf_keras.layers.Dense(3)])
    spec = {"seed": tf.TensorSpec([2], tf.int64), "x": tf.TensorSpec([None, 5])}
    model = models.functional_model(_OnX(keras_model), models.classification(), spec)
    assert [w.shape for w in model.initial_weights[1]] == [(5, 400), (400,)]
    with LocalEngine(fed_avg(model, LOOPS.DATASET_REDUCE)) as engine:
        state = engine.initialize()
        before = [address(w) for w in state.global_model_weights.non_trainable]
        seen = []
        step = engine._work._loops[0]._step

        def spied(*inputs):
            outputs = step(*inputs)
            seen.append({address(t) for t in outputs if t.dtype == tf.float32 and t.shape == [5, 400]})
            return outputs

        engine._work._loops[0]._step = spied
        for _ in range(2):
            state = engine.run_round(state, clients(2)).state
    assert [address(w) for w in state.global_model_weights.non_trainable] == before
    assert seen
    assert all(addresses == {before[0]} for addresses in seen)


class _OnX(tf_keras.Model):
    """A model of inputs {"x"}."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self({"x": np.zeros([1, 5], np.float32)})

    def call(self, inputs, training=False):
        return self.inner(inputs["x"], training=training)


def test_the_form_travels_as_bytes():
    """What is unpickled elsewhere, without the process, computes the same contribution."""
    form = RoundForm.of(linear_process(algorithms.build_fed_avg))
    travelled = pickle.loads(pickle.dumps(form))
    assert travelled.traffic == form.traffic
    broadcast = form.graph("prepare").whole()(*form.graph("initialize").whole()())
    results = []
    for each in (form, travelled):
        work = ClientWork(each.graph("work"), StepOptions())
        results.append(work.run(work.open([tf.data.experimental.to_variant(clients()[0]), *broadcast])))
    assert len(results[0]) == len(results[1]) > 3
    for ours, theirs in zip(*results):
        np.testing.assert_array_equal(ours, theirs)
    merged = form.graph("merge").whole()(*results[0], *results[1])
    np.testing.assert_allclose(merged[-1], 2 * results[0][-1])


def test_mixed_precision_is_near_and_an_unknown_one_is_refused():
    process = linear_process(algorithms.build_fed_avg)
    with LocalEngine(process, precision="bfloat16") as engine, LocalEngine(process) as exact:
        rough, fine = tiny.run_rounds(engine, clients()), tiny.run_rounds(exact, clients())
    for ours, theirs in zip(tiny.weights_of(rough.state), tiny.weights_of(fine.state)):
        np.testing.assert_allclose(ours, theirs, atol=0.05)
        assert ours.dtype == np.float32
    with pytest.raises(ValueError, match="precision 'float16' must be one of float32, bfloat16"):
        LocalEngine(process, precision="float16")


def test_arguments_are_known_without_importing_the_graph():
    form = RoundForm.of(linear_process(algorithms.build_fed_avg))
    for name in ("prepare", "work", "accumulate", "update"):
        graph = form.graph(name)
        if name != "work":
            graph.whole()
        found = [(spec.shape, spec.dtype) for spec in map(graph._spec, graph.feeds)]
        assert "graph" not in vars(graph)
        assert found == [(t.shape, t.dtype) for t in map(graph.tensor, graph.feeds)]
