"""Optimizers on gradients of embedding tables, which come as the rows a batch used, some of them twice."""

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import algorithms

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
ROWS = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [4.0, 5.0, 6.0]], np.float32)
INDICES = np.array([2, 0, 2])
BIAS = np.array([1.0, -1.0], np.float32)


def step(**settings):
    optimizer = algorithms.build_optimizer(learning_rate=0.1, **settings)
    weights = (tf.constant(TABLE), tf.constant(BIAS))
    gradients = (tf.IndexedSlices(tf.constant(ROWS), tf.constant(INDICES), tf.constant([4, 3])), tf.constant(BIAS))
    state = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, weights))
    new_state, updated = optimizer.next(state, weights, gradients)
    tf.nest.assert_same_structure(state, new_state)
    return [w.numpy() for w in updated]


def dense_gradient():
    gradient = np.zeros_like(TABLE)
    np.add.at(gradient, INDICES, ROWS)
    return gradient


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rows_used_twice_count_twice_and_others_stay(momentum):
    table, bias = step(name="sgd", momentum=momentum)  # the first step of momentum is one of plain SGD
    np.testing.assert_allclose(table, TABLE - 0.1 * dense_gradient(), rtol=1e-6)
    np.testing.assert_allclose(bias, BIAS - 0.1 * BIAS, rtol=1e-6)


def test_clipping_is_by_the_norm_of_the_sum_over_rows():
    norm = np.sqrt((dense_gradient() ** 2).sum() + (BIAS**2).sum())
    table, bias = step(name="sgd", clip_norm=1.0)
    np.testing.assert_allclose(table, TABLE - 0.1 * dense_gradient() / norm, rtol=1e-6)
    np.testing.assert_allclose(bias, BIAS - 0.1 * BIAS / norm, rtol=1e-6)


def test_weights_without_gradient_stay():
    optimizer = algorithms.build_optimizer("sgd", 0.1)
    weights = (tf.constant(TABLE), tf.constant(BIAS))
    _, updated = optimizer.next(optimizer.initialize(None), weights, (None, tf.constant(BIAS)))
    np.testing.assert_array_equal(updated[0], TABLE)


@pytest.mark.parametrize("name", algorithms.OPTIMIZERS)
def test_every_optimizer_can_follow_a_schedule_in_a_graph(name):
    """As server's optimizers do: in a function that TensorFlow refuses to change its arguments."""
    optimizer = algorithms.schedule_learning_rate(
        algorithms.build_optimizer(name, 1.0), lambda round_num: 0.5 / (1.0 + tf.cast(round_num, tf.float32))
    )
    weights = (tf.constant(TABLE), tf.constant(BIAS))
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
    state, _ = tf.function(optimizer.next)(optimizer.initialize(specs), weights, weights)
    assert float(state["optimizer"]["learning_rate"]) == 0.25
