"""Functions called step by step on several threads."""

import collections
import concurrent.futures

import pytest
import tensorflow as tf

from tests import processes
from tff_tx import runtime

SCALAR = tf.TensorSpec([], tf.float32)
SPEC = collections.OrderedDict(b=SCALAR, a=tf.TensorSpec([None], tf.float32))


def test_structures_come_back_as_the_function_gives_them():
    step = runtime.step_function(lambda state, x: collections.OrderedDict(z=state, y=x["a"] - x["b"]), SCALAR, SPEC)
    found = step(tf.constant(1.0), collections.OrderedDict(b=tf.constant(2.0), a=tf.constant([5.0, 7.0])))
    assert list(found) == ["z", "y"]
    assert found["z"].numpy() == 1.0
    assert found["y"].numpy().tolist() == [3.0, 5.0]


def test_it_is_traced_once_and_called_from_many_threads():
    traces = []

    def add(state, x):
        traces.append(x)
        return state + x

    step = runtime.step_function(add, SCALAR, SCALAR)

    def total(start):
        state = tf.constant(float(start))
        for i in range(20):
            state = step(state, tf.constant(float(i)))
        return state.numpy()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(total, range(8))) == [190.0 + start for start in range(8)]
    assert len(traces) == 1


def test_an_error_is_the_callers_and_the_next_call_works():
    step = runtime.step_function(lambda x: tf.debugging.check_numerics(x, "not finite"), SCALAR)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        step(tf.constant(float("nan")))
    assert step(tf.constant(1.0)).numpy() == 1.0


def halve_on_many_threads():
    runtime.configure_tensorflow()

    def halve(x):
        def smaller(i, y):
            return i + 1, tf.cond(tf.reduce_sum(y) > 0, lambda: y / 2, lambda: y)

        return tf.while_loop(lambda i, y: i < 50, smaller, (0, x))[1]

    step = runtime.step_function(halve, tf.TensorSpec([100]))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: step(tf.fill([100], 2.0**50)), range(100)))
    assert all((y.numpy() == 1).all() for y in found)


def test_steps_with_control_flow_do_not_wait_for_one_another():
    """In a process of its own, as TensorFlow is set up once a process."""
    assert processes.call(halve_on_many_threads) == 0
