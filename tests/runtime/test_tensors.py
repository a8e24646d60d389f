"""Tensors that are dropped leave nothing behind, however many clients a run has."""

import gc
import sys
import tracemalloc

import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import algorithms, runtime
from tff_tx.runtime.internals.calls import drop_python_state

OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)


def bytes_lost(fn, times):
    """Bytes of Python's memory that each of so many calls takes and does not give back."""
    fn()
    fn()
    gc.collect()
    tracemalloc.start()  # does not see what was there before, and may go by itself
    try:
        fn()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(times):
            fn()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / times


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python makes no room for attributes")
def test_tensorflow_loses_memory_with_every_tensor():
    """When this fails `drop_python_state` can go."""
    x = tf.constant(1.0)
    assert bytes_lost(lambda: [tf.identity(x) for _ in range(10)], 100) >= 10 * 16


def test_nothing_is_lost_with_tensors_that_drop_their_state():
    x = tf.constant(1.0)

    def make():
        drop_python_state([tf.identity(x) for _ in range(10)])

    assert bytes_lost(make, 1000) < 40


@pytest.fixture(scope="module")
def engine():
    with runtime.LocalEngine(algorithms.build_fed_avg(tiny.linear_model(), OPTIONS), threads=1) as engine:
        yield engine


@pytest.mark.slow
def test_the_engine_loses_next_to_nothing_with_a_client(engine):
    """A client's round makes about 40 tensors here."""
    clients = [tiny.batches(*tiny.client_data(12, seed=n), batch_size=5) for n in range(20)]
    state = engine.initialize()
    lost = bytes_lost(lambda: engine.run_round(state, clients), 10)
    assert lost / len(clients) < 500


def test_tensors_keep_their_values_and_gradients():
    x = tf.constant([1.0, 2.0])
    drop_python_state([x])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(x * x)
    assert tape.gradient(y, x).numpy().tolist() == [2.0, 4.0]
    assert tf.identity(x).numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("source", ["initialize", "run_round", "combine", "on_contribution", "step_function"])
def test_an_attribute_of_a_tensor_that_users_get_is_its_own(engine, source):
    clients = [tiny.batches(*tiny.client_data(12, seed=n), batch_size=5) for n in range(2)]
    contributions = []
    state = engine.initialize()
    output = engine.run_round(state, clients, on_contribution=lambda _, leaves: contributions.append(leaves))
    given = {
        "initialize": lambda: state,
        "run_round": lambda: output.state,
        "combine": lambda: engine.combine(state, contributions),
        "on_contribution": lambda: contributions,
        "step_function": lambda: runtime.step_function(lambda x: (x, 2 * x), tf.TensorSpec([]))(tf.constant(1.0)),
    }[source]()
    tensors = [leaf for leaf in tf.nest.flatten(given) if isinstance(leaf, tf.Tensor)]
    assert len(tensors) > 1
    tensors[0].mark = "mine"
    assert not [t for t in tensors[1:] if hasattr(t, "mark")]
    assert not hasattr(tf.constant(0.0), "mark")
