"""Laws of the mean on a grid of whole numbers: rounding, what one client can do, and what the server sees."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.aggregators import echo
from tff_tx.aggregators import dp
from tff_tx.aggregators.dp import discrete
from tff_tx.core.integer_grid import IntegerGrid, rotated_size
from tff_tx.runtime import LocalEngine

EXPECTED = 4
FLOATS = tff.to_type([(np.float32, [3, 2]), (np.float32, [5])])
SEED = tf.constant([1, 2], tf.int64)


def grid(clip, length, bits=20, **more):
    """Without noise."""
    return IntegerGrid.for_sums(clip, 0.0, EXPECTED, rotated_size(length), bits, **more)


def run(aggregator, rounds, size):
    with LocalEngine(echo.process(aggregator, size)) as opened:
        return echo.aggregates(opened, rounds)


# Rounding


def test_rounding_is_to_a_neighbour_and_without_bias():
    x = np.tile([-2.7, -0.5, 0.1, 3.0], 20_000)
    rounded = discrete.round_to_norm(tf.constant(x), np.inf, SEED).numpy()
    assert np.all(np.abs(rounded - x) < 1)
    found = rounded.reshape(-1, 4).mean(0)
    deviation = np.sqrt(np.array([0.21, 0.25, 0.09, 0.0]) / 20_000)
    assert np.all(np.abs(found - x[:4]) <= 5 * deviation)
    assert not np.array_equal(rounded, discrete.round_to_norm(tf.constant(x), np.inf, SEED + 1).numpy())


def test_rounding_is_repeated_until_it_is_no_longer_than_the_bound():
    """One coin, up or down: up is too long."""
    for i in range(20):
        np.testing.assert_array_equal(discrete.round_to_norm(tf.constant([3.5], tf.float64), 3.2, SEED + i), [3])
    np.testing.assert_array_equal(discrete.round_to_norm(tf.constant([3.5], tf.float64), 2.9, SEED), [0])


# What leaves a client

SENT = {
    "short": np.full([8], 0.01),
    "long": np.full([8], 7.0),
    "huge": np.full([8], 3e38),
    "infinite": np.array([np.inf, *np.ones(7)]),
    "not a number": np.array([np.nan, *np.ones(7)]),
}


@pytest.mark.parametrize("beta", [0.0, math.exp(-0.5)])
@pytest.mark.parametrize("bits", [6, 20, 30])
@pytest.mark.parametrize("sent", SENT)
def test_a_client_sends_no_more_than_the_sensitivity(sent, bits, beta):
    """Decoded from the ring, and without noise; what is not finite is nothing."""
    p = grid(0.5, 8, bits, beta=beta)
    for seed in range(5):
        query = discrete.GridQuery(p, 8, seed)
        record = query.preprocess_record((), tf.constant(SENT[sent], tf.float32)).numpy()
        assert record.dtype == np.int32
        assert np.all((record >= 0) & (record < 2**bits))
        number = (record.astype(np.int64) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
        assert np.linalg.norm(number) <= p.l2_sensitivity
        assert np.abs(number).sum() <= p.l1_sensitivity
        if sent in ("huge", "infinite", "not a number"):
            assert not record.any()
        if sent == "long" and bits > 6:
            assert np.linalg.norm(number) == pytest.approx(0.5 * p.scale, rel=1e-3)


# The aggregate


def test_types():
    process = dp.discrete_aggregator(grid(1.0, 11), EXPECTED).create(FLOATS)
    assert not process.is_weighted
    output = process.next.type_signature.result
    assert output.result.is_assignable_from(tff.FederatedType(FLOATS, tff.SERVER))
    assert process.initialize.type_signature.result.is_assignable_from(output.state)


def test_it_takes_no_weights_and_updates_of_its_grid():
    factory = dp.discrete_aggregator(grid(1.0, 11), EXPECTED)
    assert not isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    with pytest.raises(TypeError):
        factory.create(FLOATS, tff.TensorType(np.float32))
    with pytest.raises(ValueError, match="a grid of 8 numbers is not for vectors of 11: 16"):
        dp.discrete_aggregator(grid(1.0, 7), EXPECTED).create(FLOATS)


@pytest.mark.slow
@pytest.mark.parametrize("length", [7, 5000])
def test_it_is_the_plain_mean_to_the_grid(length):
    """In one block, and in two of which the last is filled up."""
    x = np.random.default_rng(0).normal(size=[EXPECTED, length])
    p = grid(3.0 * length**0.5, length)
    found = run(dp.discrete_aggregator(p, EXPECTED), [[echo.client(row) for row in x], []], length)
    # A rotation has norm 1, and no number is off by more than a step a client.
    assert np.linalg.norm(found[0] - x.mean(0)) <= math.sqrt(p.size) / p.scale + 1e-5 * length
    np.testing.assert_array_equal(found[1], np.zeros(length))


def test_one_client_moves_the_mean_by_no_more_than_the_clip():
    others = [np.array([0.1, 0.0, -0.2, 0.0]), np.array([0.0, 9.0, 0.0, 0.0])]
    kept = others[0] + [0.0, 0.5, 0.0, 0.0]
    bad = [([7.0] * 4, 1.0), ([3e38] * 4, 1.0), ([1.0, -1.0, 1.0, 1.0], 0.0), ([0.0, 1.0, 1.0, 1.0], 0.0)]
    rounds = [[*map(echo.client, others), echo.client(np.array(value), divisor)] for value, divisor in bad]
    process = echo.process(dp.discrete_aggregator(grid(0.5, 4), EXPECTED), 4)
    with LocalEngine(process) as opened:
        long, *not_finite = (echo.aggregates(opened, [clients])[0] for clients in rounds)
    rounding = 3 * 2 / grid(0.5, 4).scale / EXPECTED + 1e-6
    assert np.linalg.norm(long - kept / EXPECTED) == pytest.approx(0.5 / EXPECTED, abs=rounding)
    for found in not_finite:
        assert np.linalg.norm(found - kept / EXPECTED) <= rounding


def test_the_server_sees_the_secure_sum_alone():
    process = echo.process(dp.discrete_aggregator(grid(1.0, 5, 16), EXPECTED), 5)
    form = tff.backends.mapreduce.get_map_reduce_form_for_computation(process.next)
    plain, bitwidth, largest, modular = form.work.type_signature.result
    assert not tff.structure.flatten(plain)
    assert not tff.structure.flatten(bitwidth)
    assert not tff.structure.flatten(largest)
    assert tff.structure.flatten(modular) == [tff.TensorType(np.int32, [8])]
    assert tf.nest.flatten(form.secure_modular_sum_modulus()) == [2**16]
    with LocalEngine(process) as engine:
        assert engine.parts.moduli == (2**16,)
