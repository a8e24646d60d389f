"""Laws of the mean with discrete noise: grid, noise, what one client can do, and what the server sees."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from scipy import stats
from tensorflow_federated.python.aggregators import discretization, distributed_dp
from tensorflow_federated.python.core.backends.test import execution_contexts

from tests.aggregators import echo
from tff_tx import aggregators, privacy
from tff_tx.aggregators import dp
from tff_tx.aggregators.dp import discrete
from tff_tx.runtime import ENGINES, LocalEngine

EXPECTED = 4
PARAMETERS = dp.SkellamParameters(0.5, 1.2, EXPECTED, 1000, bits=18)
FLOATS = tff.to_type([(np.float32, [3, 2]), (np.float32, [5])])


def run(aggregator, rounds, size, engine=LocalEngine):
    with engine(echo.process(aggregator, size)) as opened:
        return echo.aggregates(opened, rounds)


# The grid


@pytest.mark.parametrize("noise", [0.0, 1.2])
def test_the_grid_is_tffs(noise):
    p = dataclasses.replace(PARAMETERS, noise_multiplier=noise)
    share = p.noise_multiplier * p.clip / EXPECTED**0.5
    deviations = distributed_dp._clip_prob_to_num_stddevs(p.wrap_probability)
    theirs = distributed_dp._heuristic_scale_factor(share, p.clip, p.bits, EXPECTED, p.size, deviations)
    assert p.scale == pytest.approx(float(theirs), rel=1e-5)
    assert math.sqrt(p.share_variance) == pytest.approx(share * p.scale, rel=1e-12)


@pytest.mark.parametrize("bits", [8, 18])
@pytest.mark.parametrize("beta", [0.0, 0.3, math.exp(-0.5)])
def test_sensitivities_are_tffs(bits, beta):
    p = dataclasses.replace(PARAMETERS, beta=beta, bits=bits)
    bound = discretization.inflated_l2_norm_bound(p.clip, 1 / p.scale, beta, p.size)
    assert p.l2_sensitivity == pytest.approx(float(bound) * p.scale, rel=2e-5)
    assert p.l1_sensitivity == pytest.approx(p.l2_sensitivity * min(p.l2_sensitivity, 1000**0.5))


@pytest.mark.parametrize("rotation", [None, *discrete.ROTATIONS])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_rotated_sizes_are_tffs(rotation, size):
    found = []

    class Spy(tff.aggregators.SumFactory):
        def create(self, value_type):
            found.append(value_type.shape)
            return super().create(value_type)

    factory = Spy() if rotation is None else discrete.ROTATIONS[rotation](Spy())
    factory.create(tff.TensorType(np.float32, [size]))
    assert found == [(dp.rotated_size(size, rotation),)]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"clip": math.inf}, "clip=inf"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1"),
        ({"clients_per_round": 0}, "clients_per_round=0"),
        ({"bits": 31}, "bits=31"),
        ({"bits": 3, "clients_per_round": 5}, "bits=3 do not hold"),
        ({"beta": 1.0}, "beta=1"),
        ({"wrap_probability": 0.0}, "wrap_probability=0"),
        ({"rotation": "none"}, "rotation=none"),
    ],
)
def test_what_is_out_of_range_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        dp.discrete_aggregator(**{"clip": 1.0, "noise_multiplier": 1.0, "clients_per_round": 4, **wrong})


# Rounding and noise


def test_rounding_is_to_a_neighbour_and_without_bias():
    x = np.tile([-2.7, -0.5, 0.1, 3.0], 20_000)
    rounded = discrete.round_to_norm(tf.constant(x), np.inf).numpy()
    assert np.all(np.abs(rounded - x) < 1)
    found = rounded.reshape(-1, 4).mean(0)
    deviation = np.sqrt(np.array([0.21, 0.25, 0.09, 0.0]) / 20_000)
    assert np.all(np.abs(found - x[:4]) <= 5 * deviation)
    assert not np.array_equal(rounded, discrete.round_to_norm(tf.constant(x), np.inf).numpy())


def test_rounding_is_repeated_until_it_is_no_longer_than_the_bound():
    """One coin, up or down: up is too long."""
    for _ in range(20):
        np.testing.assert_array_equal(discrete.round_to_norm(tf.constant([3.5], tf.float64), 3.2), [3])
    np.testing.assert_array_equal(discrete.round_to_norm(tf.constant([3.5], tf.float64), 2.9), [0])


@pytest.mark.parametrize("variance", [0.4, 60.0, 1e9])
def test_noise_has_the_stated_moments(variance):
    noise = discrete.skellam_noise([40_000], variance).numpy().astype(float)
    kurtosis = 3 + 1 / variance
    assert abs(noise.mean()) <= 5 * math.sqrt(variance / noise.size)
    assert noise.var() == pytest.approx(variance, rel=5 * math.sqrt((kurtosis - 1) / noise.size))


def test_noise_is_skellams():
    noise = discrete.skellam_noise([40_000], 3.0).numpy()
    values = np.arange(-6, 7)
    counts = np.array([np.sum(noise == value) for value in values])
    expected = stats.skellam.pmf(values, 1.5, 1.5)
    assert np.all(np.abs(counts / noise.size - expected) <= 5 * np.sqrt(expected / noise.size))


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
    p = dp.SkellamParameters(0.5, 0.0, EXPECTED, 8, bits=bits, beta=beta)
    for _ in range(5):
        record = discrete.SkellamQuery(p).preprocess_record((), tf.constant(SENT[sent], tf.float32)).numpy()
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


@pytest.mark.parametrize("secure", [False, True])
def test_types(secure):
    factory = aggregators.discrete_aggregator(1.0, 1.0, EXPECTED, secure=secure)
    process = factory.create(FLOATS)
    assert not process.is_weighted
    output = process.next.type_signature.result
    assert output.result.is_assignable_from(tff.FederatedType(FLOATS, tff.SERVER))
    assert process.initialize.type_signature.result.is_assignable_from(output.state)


def test_it_takes_no_weights():
    factory = dp.discrete_aggregator(1.0, 1.0, EXPECTED)
    assert not isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    with pytest.raises(TypeError):
        factory.create(FLOATS, tff.TensorType(np.float32))


@pytest.mark.parametrize(
    ("engine", "rotation"), [("local", "hadamard"), ("local", "fourier"), ("local", None), ("tff_native", "hadamard")]
)
def test_without_noise_it_is_the_plain_mean_to_the_grid(engine, rotation):
    x = np.random.default_rng(0).normal(size=[EXPECTED, 7])
    aggregator = dp.discrete_aggregator(30.0, 0.0, EXPECTED, rotation=rotation, secure=False)
    p = dp.SkellamParameters(30.0, 0.0, EXPECTED, dp.rotated_size(7, rotation))
    found = run(aggregator, [[echo.client(row) for row in x], []], 7, ENGINES[engine])
    # A rotation has norm 1, and no number is off by more than a step a client.
    assert np.linalg.norm(found[0] - x.mean(0)) <= math.sqrt(p.size) / p.scale + 1e-5
    np.testing.assert_array_equal(found[1], np.zeros(7))


@pytest.mark.parametrize("reporting", [0, 2, EXPECTED])
def test_noise_of_the_mean_has_the_stated_deviation(reporting):
    """Shares of those who report, over the expected number."""
    size = 2**14
    aggregator = dp.discrete_aggregator(0.5, 1.2, EXPECTED, secure=False)
    first, second = run(aggregator, [[echo.client(np.zeros(size))] * reporting] * 2, size)
    stated = 1.2 * 0.5 / EXPECTED * math.sqrt(reporting / EXPECTED)
    assert first.std() == pytest.approx(stated, rel=5 / math.sqrt(2 * size))
    assert abs(np.vdot(first, second)) <= 5 * stated**2 * math.sqrt(size)
    p = dp.SkellamParameters(0.5, 1.2, EXPECTED, size)
    assert math.sqrt(reporting * p.share_variance) / p.scale / EXPECTED == pytest.approx(stated)


@pytest.mark.parametrize("engine", ["local", "tff_native"])
def test_one_client_moves_the_mean_by_no_more_than_the_clip(engine):
    others = [np.array([0.1, 0.0, -0.2, 0.0]), np.array([0.0, 9.0, 0.0, 0.0])]
    kept = others[0] + [0.0, 0.5, 0.0, 0.0]
    bad = [([7.0] * 4, 1.0), ([3e38] * 4, 1.0), ([1.0, -1.0, 1.0, 1.0], 0.0), ([0.0, 1.0, 1.0, 1.0], 0.0)]
    rounds = [[*map(echo.client, others), echo.client(np.array(value), divisor)] for value, divisor in bad]
    process = echo.process(dp.discrete_aggregator(0.5, 0.0, EXPECTED, secure=False), 4)
    with ENGINES[engine](process) as opened:
        long, *not_finite = (echo.aggregates(opened, [clients])[0] for clients in rounds)
    rounding = 3 * 2 / dp.SkellamParameters(0.5, 0.0, EXPECTED, 4).scale / EXPECTED + 1e-6
    assert np.linalg.norm(long - kept / EXPECTED) == pytest.approx(0.5 / EXPECTED, abs=rounding)
    for found in not_finite:
        assert np.linalg.norm(found - kept / EXPECTED) <= rounding


# Secure sums


def test_a_secure_sum_is_the_plain_one():
    x = np.random.default_rng(1).normal(size=[EXPECTED, 11]).astype(np.float32)
    values = [[row[:6].reshape(3, 2), row[6:]] for row in x]
    process = dp.discrete_aggregator(30.0, 0.0, EXPECTED).create(FLOATS)
    context = execution_contexts.create_sync_test_cpp_execution_context()
    with tff.framework.get_context_stack().install(context):
        result = process.next(process.initialize(), values).result
    found = np.concatenate([np.reshape(leaf, -1) for leaf in tf.nest.flatten(result)])
    p = dp.SkellamParameters(30.0, 0.0, EXPECTED, 16)
    assert np.linalg.norm(found - x.mean(0)) <= 4 / p.scale + 1e-5


def test_the_server_sees_the_secure_sum_alone():
    process = echo.process(dp.discrete_aggregator(1.0, 1.0, EXPECTED, bits=16), 5)
    form = tff.backends.mapreduce.get_map_reduce_form_for_computation(process.next)
    plain, bitwidth, largest, modular = form.work.type_signature.result
    assert not tff.structure.flatten(plain)
    assert not tff.structure.flatten(bitwidth)
    assert not tff.structure.flatten(largest)
    assert tff.structure.flatten(modular) == [tff.TensorType(np.int32, [8])]
    assert tf.nest.flatten(form.secure_modular_sum_modulus()) == [2**16]
    with LocalEngine(process) as engine:
        assert engine.parts.moduli == (2**16,)


# Accounting


def test_epsilon_is_the_gaussians_on_a_fine_grid_and_more_on_a_coarse_one():
    def epsilon(bits):
        p = dp.SkellamParameters(1.0, 2.0, 100, 2**20, bits=bits)
        return privacy.skellam_epsilon(p.l1_sensitivity, p.l2_sensitivity, 100 * p.share_variance, 4, 1e-6)

    gaussian = privacy.epsilon(privacy.Gaussian(2.0), 4, 1e-6, "rdp")
    assert gaussian <= epsilon(24) <= 1.01 * gaussian
    assert epsilon(24) < epsilon(16) < epsilon(12)
