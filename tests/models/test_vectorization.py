"""Maps over the examples of a batch: as a loop computes, with random numbers as for the batch as a whole."""

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError

SEED = tf.constant([5, 6], tf.int64)
DRAWS = {
    "uniform": lambda shape, seed: tf.random.stateless_uniform(shape, seed, alg="philox"),
    "normal": lambda shape, seed: tf.random.stateless_normal(shape, seed, alg="philox"),
    "truncated": lambda shape, seed: tf.random.stateless_truncated_normal(shape, seed, alg="philox"),
    "integers": lambda shape, seed: tf.random.stateless_uniform(shape, seed, 0, 1000, tf.int32, alg="philox"),
    "of a derived seed": lambda shape, seed: tf.random.stateless_normal(
        shape, tf.random.experimental.stateless_fold_in(seed, tf.constant(3, tf.int64)), alg="philox"
    ),
}


def mapped(fn, batch, seed=None):
    return tf.function(lambda: models.vectorized_map(fn, batch, seed), autograph=False)()


def test_it_is_a_loop():
    x, y = tf.random.stateless_normal([4, 3], [1, 2]), tf.range(4.0)
    found = mapped(lambda part, seed: (tf.reduce_sum(part[0] ** 2) * part[1], part[0]), (x, y))
    np.testing.assert_allclose(found[0], (x.numpy() ** 2).sum(1) * y.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(found[1], x)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_for_the_batch_as_a_whole(name):
    draw, ones = DRAWS[name], tf.ones([4, 1, 3])
    found = mapped(lambda part, seed: draw(tf.shape(part), seed), ones, SEED)
    np.testing.assert_array_equal(found[:, 0], draw([4, 3], SEED))
    assert len(np.unique(found)) == 12


def test_two_draws_are_not_the_same():
    def two(part, seed):
        other = tf.random.experimental.stateless_fold_in(seed, tf.constant(1, tf.int64))
        return tf.random.stateless_normal([50], seed), tf.random.stateless_normal([50], other) + 0 * part

    first, second = mapped(two, tf.ones([4, 50]), SEED)
    assert abs(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]) < 0.3
    assert len(np.unique(first)) == 200


def test_tensorflows_own_map_is_as_it_was():
    """It still has no rule for the draws outside of ours."""
    mapped(lambda part, seed: tf.random.stateless_normal([2], seed) + part, tf.ones([3, 2]), SEED)
    with pytest.raises(ValueError, match="No pfor vectorization"):
        tf.vectorized_map(
            lambda seed: tf.random.stateless_normal([2], seed, alg="philox"),
            tf.stack([SEED, SEED]),
            fallback_to_while_loop=False,
        )


def test_an_op_without_a_rule_is_told():
    with pytest.raises(UserError, match="train another model"):
        mapped(lambda part, seed: tf.strings.regex_replace(tf.strings.as_string(part), "1", "2"), tf.ones([3]))
