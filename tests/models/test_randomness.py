"""The stateless replacements of TensorFlow's stateful random ops."""

import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.ops import gen_random_ops

from tff_tx.models.tracing import randomness as _randomness

N = 100_000
SEED = (3, 4)


def draw(function, seed=SEED):
    """What `function` draws in a graph whose input is the seed, so that constants do not fold."""

    @tf.function(autograph=False)
    def call(seed):
        with _randomness.seeded(seed):
            return function()

    return tf.nest.map_structure(lambda t: t.numpy(), call(tf.constant(seed, tf.int64)))


OPS = {
    "uniform": lambda: tf.random.uniform([N]),
    "normal": lambda: tf.random.normal([N], 2.0, 3.0),
    "truncated_normal": lambda: tf.random.truncated_normal([N]),
    "integers": lambda: tf.random.uniform([N], -3, 9, tf.int32),
    "shuffle": lambda: tf.random.shuffle(tf.range(N)),
    "categorical": lambda: tf.random.categorical(tf.math.log([[0.5, 0.2, 0.3]]), N)[0],
    "dropout": lambda: tf.nn.dropout(tf.ones([N]), 0.3),
    "keras_backend": lambda: tf_keras.backend.random_normal([N]),
    "legacy_distribution": lambda: tf.compat.v1.distributions.Bernoulli(probs=0.3).sample(N),
}
ALL = pytest.mark.parametrize("op", OPS)


@ALL
def test_numbers_are_a_function_of_the_seed(op):
    first = draw(OPS[op])
    tf.random.uniform([7])
    np.testing.assert_array_equal(first, draw(OPS[op]))
    for seed in [(4, 4), (3, 5), (4, 3), (3, -4), (0, 0), (2**62, 4)]:
        assert np.mean(first == draw(OPS[op], seed)) < 0.9


@ALL
def test_no_stateful_op_is_left(op):
    @tf.function(autograph=False)
    def call(seed):
        with _randomness.seeded(seed):
            return OPS[op]()

    graph = call.get_concrete_function(tf.TensorSpec([2], tf.int64)).graph
    assert _randomness.stateful_ops(graph) == []
    plain = tf.function(OPS[op], autograph=False).get_concrete_function().graph
    assert len(_randomness.stateful_ops(plain)) == 1


def test_stateful_ops_are_found_inside_of_functions():
    @tf.function
    def inner():
        return tf.random.gamma([2], 3.0)

    graph = tf.function(lambda: inner() + 1.0).get_concrete_function().graph
    assert _randomness.stateful_ops(graph) == ["RandomGamma"]


def test_a_generator_draws_from_the_seed_and_keeps_its_state():
    generator = tf.random.Generator.from_seed(1)
    before = generator.state.numpy()
    first = draw(lambda: generator.normal([N]))
    np.testing.assert_array_equal(first, draw(lambda: generator.normal([N])))
    assert abs(first.mean()) < 0.02
    assert abs(first.std() - 1) < 0.02
    a, b = draw(lambda: (generator.make_seeds(2), generator.make_seeds(2)))
    assert np.all(a[0] != b[0])  # the second row is zero, as in every seed of Keras
    np.testing.assert_array_equal(generator.state, before)
    assert not np.array_equal(generator.normal([3]), generator.normal([3]))


# Distributions; the bounds are five standard errors and more


def test_uniform():
    values = draw(OPS["uniform"])
    assert 0 <= values.min() < 0.001
    assert 0.999 < values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005
    assert abs(values.var() - 1 / 12) < 0.002


def test_normal():
    values = draw(OPS["normal"])
    assert abs(values.mean() - 2) < 0.05
    assert abs(values.std() - 3) < 0.05
    z = (values - 2) / 3
    assert abs(np.mean(z**3)) < 0.05
    assert abs(np.mean(z**4) - 3) < 0.15


def test_truncated_normal():
    values = draw(OPS["truncated_normal"])
    assert np.abs(values).max() <= 2
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 0.8796) < 0.01  # of a standard normal cut at two


def test_integers_keep_their_bounds():
    values = draw(OPS["integers"])
    assert values.dtype == np.int32
    kinds, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(kinds, np.arange(-3, 9))
    assert np.abs(counts - N / 12).max() < 6 * np.sqrt(N / 12)
    wide = draw(lambda: tf.random.uniform([N], 0, 2**40, tf.int64))
    assert wide.dtype == np.int64
    assert wide.max() > 2**39


def test_shuffle():
    values = draw(OPS["shuffle"])
    np.testing.assert_array_equal(np.sort(values), np.arange(N))
    assert abs(np.corrcoef(values, np.arange(N))[0, 1]) < 0.02


def test_categorical():
    values = draw(OPS["categorical"])
    assert values.dtype == np.int64
    np.testing.assert_allclose(np.bincount(values) / N, [0.5, 0.2, 0.3], atol=0.01)


def test_dropout_keeps_the_rate_and_the_mean():
    values = draw(OPS["dropout"])
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.7], rtol=1e-6)
    assert abs(np.mean(values > 0) - 0.7) < 0.01
    assert abs(values.mean() - 1) < 0.012


# Independence


def correlation(a, b):
    return abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def test_layers_of_one_call_are_independent():
    model = tf_keras.Sequential([tf_keras.layers.Dropout(0.5), tf_keras.layers.Dropout(0.5)])
    first, second = model.layers
    ones = tf.ones([N])
    a, b = draw(lambda: (first(ones, training=True), second(ones, training=True)))
    assert correlation(a, b) < 0.02
    np.testing.assert_array_equal(a, draw(lambda: first(ones, training=True)))


def test_neighbouring_seeds_share_no_numbers():
    """Batch after batch, client after client: no layer draws what another did elsewhere."""

    def four():
        return [tf.random.uniform([1000]) for _ in range(4)]

    streams = []
    for client in range(3):
        for step in range(3):
            streams.extend(draw(four, (client, step)))
    for i, a in enumerate(streams):
        for b in streams[:i]:
            assert correlation(a, b) < 0.2


def test_the_two_words_of_a_seed_are_not_interchangeable():
    assert correlation(draw(OPS["uniform"], (1, 2)), draw(OPS["uniform"], (2, 1))) < 0.02


def test_int32_seeds_are_as_good():
    def call(dtype):
        with _randomness.seeded(tf.constant(SEED, dtype)):
            return tf.random.uniform([5])

    np.testing.assert_array_equal(call(tf.int32), call(tf.int64))


# What is patched, and for whom


def patched():
    return [getattr(owner, name) for owner, name, *_ in _randomness._STATELESS]


def test_everything_is_restored():
    before = patched()
    with _randomness.seeded(tf.constant(SEED, tf.int64)):
        assert all(a is not b for a, b in zip(before, patched()))
    assert before == patched()


def test_everything_is_restored_after_an_exception():
    before = patched()
    with pytest.raises(KeyError), _randomness.seeded(tf.constant(SEED, tf.int64)):
        raise KeyError
    assert before == patched()
    assert not np.array_equal(tf.random.uniform([3]), tf.random.uniform([3]))


def test_a_bad_seed_leaves_nothing_patched():
    before = patched()
    seed = tf.constant([1, 2, 3], tf.int64)
    refusal = pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="shape")
    with refusal, _randomness.seeded(seed):
        pass
    assert before == patched()
    with _randomness.seeded(None):
        assert before == patched()


def test_an_inner_seed_ends_where_it_ends():
    def nested():
        outer = [tf.random.uniform([4])]
        with _randomness.seeded(tf.constant([8, 9], tf.int64)):
            inner = tf.random.uniform([4])
        return [*outer, tf.random.uniform([4])], inner

    outer, inner = draw(nested)
    np.testing.assert_array_equal(outer, draw(lambda: [tf.random.uniform([4]), tf.random.uniform([4])]))
    np.testing.assert_array_equal(inner, draw(lambda: tf.random.uniform([4]), (8, 9)))


def test_other_threads_draw_as_ever():
    tf.random.set_seed(11)
    expected = [tf.random.uniform([4]).numpy() for _ in range(2)]
    tf.random.set_seed(11)
    found = []
    with _randomness.seeded(tf.constant(SEED, tf.int64)):
        mine = tf.random.uniform([4]).numpy()
        other = threading.Thread(target=lambda: found.extend(tf.random.uniform([4]).numpy() for _ in range(2)))
        other.start()
        other.join()
    assert len(found) == 2
    # The process-wide seed counts the ops of a thread's context, whichever numbers they give.
    assert not any(np.array_equal(mine, values) for values in (*found, *expected))
    assert not np.array_equal(found[0], found[1])
    assert gen_random_ops.random_uniform.__module__ == "tensorflow.python.ops.gen_random_ops"


def test_threads_that_seed_at_the_same_time_do_not_mix():
    seeds = [(i, i + 1) for i in range(6)]
    expected = [draw(lambda: tf.random.uniform([20]), seed) for seed in seeds]
    found = {}

    def work(seed):
        found[seed] = draw(lambda: tf.random.uniform([20]), seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, values in zip(seeds, expected):
        np.testing.assert_array_equal(found[seed], values)
