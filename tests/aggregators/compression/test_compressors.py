"""Compressors against NumPy and the papers' numbers; unbiased where they say so."""

import math

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tff_tx.aggregators import compression
from tff_tx.aggregators.compression import build_compressor
from tff_tx.aggregators.compression.quantization import gaussian_centroids, hadamard_transform

RNG = np.random.default_rng(0)
SHAPES = [(40, 60), (7,), (3, 4, 50), ()]
LEAVES = [np.asarray(RNG.normal(size=s) * np.exp(RNG.normal(size=s)), np.float32) for s in SHAPES]
SPECS = [tf.TensorSpec(leaf.shape, tf.float32) for leaf in LEAVES]
VECTOR = np.concatenate([leaf.reshape(-1) for leaf in LEAVES])
NAMES = (
    *("uniform8", "uniform1", "stochastic3", "stochastic1", "rotated2", "eden1", "eden4"),
    *("top_k", "random_k", "low_rank"),
)


def there_and_back_fn(compressor):
    @tf.function
    def fn(seed):
        code = compressor.encode([tf.constant(leaf) for leaf in LEAVES], seed)
        return code, compressor.decode(code, SPECS)

    return lambda seed: fn(tf.constant([seed, 0], tf.int64))


def flat(leaves):
    return np.concatenate([np.reshape(leaf, -1) for leaf in leaves])


@pytest.mark.parametrize("name", NAMES)
def test_codes_travel_as_bytes_and_decode_alike(name):
    compressor = build_compressor(name, fraction=0.1)
    code, decoded = there_and_back_fn(compressor)(1)
    message = compression.encode([leaf.numpy() for leaf in tf.nest.flatten(code)])
    arrived = tf.nest.pack_sequence_as(code, [tf.constant(leaf) for leaf in compression.decode(message)])
    assert [leaf.shape for leaf in decoded] == SHAPES
    np.testing.assert_array_equal(flat(compressor.decode(arrived, SPECS)), flat(decoded))
    assert len(message) < VECTOR.nbytes / 2


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name):
    compressor = build_compressor(name, fraction=0.1)
    fn = there_and_back_fn(compressor)
    np.testing.assert_array_equal(flat(fn(1)[1]), flat(fn(1)[1]))
    deterministic = name.startswith("uniform") or name == "top_k"
    assert np.array_equal(flat(fn(1)[1]), flat(fn(2)[1])) == deterministic


@pytest.mark.parametrize("name", ["stochastic1", "stochastic3", "rotated2", "random_k"])
def test_those_that_say_so_are_unbiased(name):
    """Every coordinate's mean over seeds is within five standard errors, and the mean of all errors within four."""
    compressor = build_compressor(name, fraction=0.1)
    assert compressor.unbiased
    fn, samples = there_and_back_fn(compressor), 400
    decoded = np.stack([flat(fn(seed)[1]) for seed in range(samples)]).astype(np.float64)
    errors = decoded - VECTOR
    deviation = errors.std(axis=0) / math.sqrt(samples)
    z = errors.mean(axis=0)[deviation > 1e-6] / deviation[deviation > 1e-6]
    assert np.max(np.abs(z)) < 5.5
    assert abs(np.mean(z**2) - 1) < 4 * math.sqrt(2 / len(z)) + 0.05
    projection = errors @ VECTOR
    assert abs(projection.mean()) < 4 * projection.std() / math.sqrt(samples)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_eden_errs_as_the_paper_says_and_averages_out(bits):
    """With b bits the error of one client is 1 / (1 - MSE_b) - 1 of |x|^2, and of n clients the n-th part.

    MSE_b is that of the Lloyd-Max quantizer (Max 1960, table I); with one bit pi/2 - 1 (DRIVE, theorem 2). What errs in
    the coordinates that fill the block up is dropped.
    """
    distortion = {1: 0.3634, 2: 0.1175, 4: 0.009497}[bits]
    fn, samples = there_and_back_fn(build_compressor(f"eden{bits}")), 200
    errors = np.stack([flat(fn(seed)[1]) for seed in range(samples)]) - VECTOR
    nmse = np.mean(np.sum(errors**2, axis=1)) / np.sum(VECTOR**2) * 4096 / len(VECTOR)
    assert nmse == pytest.approx(1 / (1 - distortion) - 1, rel=0.06)
    mean_error = np.sum(errors.mean(axis=0) ** 2) / np.sum(VECTOR**2) * 4096 / len(VECTOR)
    assert mean_error == pytest.approx(nmse / samples, rel=0.2)
    if bits == 1:
        assert nmse == pytest.approx(math.pi / 2 - 1, rel=0.06)


def test_the_centroids_are_those_of_max():
    """Max 1960, "Quantizing for minimum distortion", table I."""
    np.testing.assert_allclose(gaussian_centroids(1)[1:], [0.7980], atol=2e-4)
    np.testing.assert_allclose(gaussian_centroids(2)[2:], [0.4528, 1.510], atol=1e-3)
    np.testing.assert_allclose(gaussian_centroids(3)[4:], [0.2451, 0.7560, 1.344, 2.152], atol=1e-3)
    last = gaussian_centroids(8)
    assert np.all(np.diff(last) > 0)
    assert np.all(np.isfinite(last))


def test_the_hadamard_transform_is_scipys():
    rows = RNG.normal(size=[3, 128]).astype(np.float32)
    expected = rows @ scipy.linalg.hadamard(128) / math.sqrt(128)
    np.testing.assert_allclose(hadamard_transform(tf.constant(rows)), expected, atol=1e-5)
    np.testing.assert_allclose(hadamard_transform(hadamard_transform(tf.constant(rows))), rows, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_uniform_quantization_takes_the_nearest_level_of_each_block(bits):
    compressor = compression.UniformQuantizer(bits, stochastic=False, block_size=1000)
    decoded = flat(there_and_back_fn(compressor)(0)[1])
    for start in range(0, len(VECTOR), 1000):
        x = VECTOR[start : start + 1000].astype(np.float64)
        levels = np.linspace(x.min(), x.max(), 2**bits)
        distances = np.abs(x[:, None] - levels)
        np.testing.assert_allclose(np.abs(decoded[start : start + 1000] - x), distances.min(axis=1), atol=2e-5)


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("top_k", "random_k", "low_rank")])
def test_constant_tensors_are_finite(name, value):
    compressor = build_compressor(name)
    code = compressor.encode([tf.fill([5000], value)], tf.constant([1, 2], tf.int64))
    (decoded,) = compressor.decode(code, [tf.TensorSpec([5000])])
    assert np.all(np.isfinite(decoded))
    if value == 0 or not name.startswith(("eden", "rotated")):
        np.testing.assert_allclose(decoded, value, atol=1e-6)


def test_top_k_sends_the_largest():
    decoded = flat(there_and_back_fn(compression.TopK(0.05))(0)[1])
    k = round(0.05 * len(VECTOR))
    expected = np.where(np.abs(VECTOR) >= np.sort(np.abs(VECTOR))[-k], VECTOR, 0)
    np.testing.assert_array_equal(decoded, expected)


def test_random_k_sends_as_many_and_scales_them():
    for scaled, factor in ((True, len(VECTOR) / round(0.1 * len(VECTOR))), (False, 1.0)):
        decoded = flat(there_and_back_fn(compression.RandomK(0.1, scaled))(3)[1])
        sent = decoded != 0
        assert sent.sum() == round(0.1 * len(VECTOR))
        np.testing.assert_allclose(decoded[sent], VECTOR[sent] * factor, rtol=1e-6)


def test_low_rank_is_exact_for_matrices_of_that_rank_and_near_the_best_for_others():
    rng = np.random.default_rng(1)
    thin = (rng.normal(size=[30, 2]) @ rng.normal(size=[2, 50])).astype(np.float32)
    wide = (rng.normal(size=[60, 40]) * np.exp(-0.4 * np.arange(40))).astype(np.float32)
    bias = rng.normal(size=[11]).astype(np.float32)
    compressor = compression.LowRank(2)
    code = compressor.encode([tf.constant(t) for t in (thin, wide, bias)], tf.constant([1, 2], tf.int64))
    decoded = compressor.decode(code, [tf.TensorSpec(t.shape) for t in (thin, wide, bias)])
    np.testing.assert_allclose(decoded[0], thin, atol=1e-4)
    np.testing.assert_array_equal(decoded[2], bias)
    best = np.sqrt(np.sum(np.linalg.svd(wide)[1][2:] ** 2))  # Eckart and Young
    assert best <= np.linalg.norm(decoded[1] - wide) < 1.1 * best


@pytest.mark.parametrize("name", ["uniform", "uniform9", "eden0", "topk", "none"])
def test_unknown_names_are_told(name):
    with pytest.raises(ValueError, match=f"compressor '{name}' must be one of"):
        build_compressor(name)


def test_impossible_arguments_are_told():
    with pytest.raises(ValueError, match="above 0 and at most 1, and 0"):
        build_compressor("top_k", fraction=0)
    with pytest.raises(ValueError, match="at least 1, and 0"):
        build_compressor("low_rank", rank=0)
    with pytest.raises(ValueError, match="block_size=12: must be a power of two"):
        compression.Rotated(compression.UniformQuantizer(1), 12)
    with pytest.raises(ValueError, match="bits are 1 to 8, and 9"):
        compression.UniformQuantizer(9)
