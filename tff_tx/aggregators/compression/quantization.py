"""Quantizers: every coordinate becomes one of 2^b levels, few of which will do after a rotation."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.aggregators.compression.compressor import PHILOX, Code, VectorCompressor, blocks, fold_in, from_blocks

_HADAMARD_FACTOR = 32


class UniformQuantizer(VectorCompressor):
    """2^b levels at equal distances between the smallest and the largest value of each block of coordinates.

    x becomes lo + delta * l with delta = (hi - lo) / (2^b - 1). Deterministic rounding takes the nearest level, which
    errs the least but is biased; stochastic rounding takes one of the two neighbours, by chance in proportion to
    nearness, so that its mean is x (Suresh et al. 2017, "Distributed Mean Estimation with Limited Communication",
    https://arxiv.org/abs/1611.00429, section 2.2; in blocks as in Alistarh et al. 2017, "QSGD",
    https://arxiv.org/abs/1610.02132, section 4). TFF's `EncodedSumFactory` rounds with stateful random ops, which the
    order of clients decides, and over whole tensors.

    Args:
      bits: b, 1 to 8.
      stochastic: How to round.
      block_size: Coordinates that share lo and hi, which cost 64 bits.
    """

    def __init__(self, bits: int, stochastic: bool = True, block_size: int = 1024):
        _check_bits(bits)
        self.bits, self.unbiased, self._block_size = bits, stochastic, block_size

    def encode_vector(self, vector: tf.Tensor, seed: tf.Tensor) -> Code:
        rows = blocks(vector, self._block_size)
        # The zeros that fill the last block up must not widen its range.
        filled = tf.reshape(blocks(tf.ones_like(vector), self._block_size), tf.shape(rows)) > 0
        low = tf.reduce_min(tf.where(filled, rows, rows.dtype.max), axis=1)
        high = tf.reduce_max(tf.where(filled, rows, rows.dtype.min), axis=1)
        position = tf.math.divide_no_nan(rows - low[:, None], self._distance(low, high)[:, None])
        if self.unbiased:
            levels = tf.floor(position + tf.random.stateless_uniform(position.shape, seed, alg=PHILOX))
        else:
            levels = tf.round(position)
        levels = tf.clip_by_value(levels, 0.0, 2.0**self.bits - 1)
        return Code(low=low, high=high, levels=tf.cast(from_blocks(levels, vector.shape[0]), tf.uint8))

    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        rows = blocks(tf.cast(code["levels"], tf.float32), self._block_size)
        low = code["low"][:, None]
        return from_blocks(low + rows * self._distance(low, code["high"][:, None]), size)

    def _distance(self, low, high):
        return (high - low) / (2.0**self.bits - 1)


class GaussianQuantizer(VectorCompressor):
    """The 2^b levels that suit normally distributed coordinates best, with a scale a block; made for rotated vectors.

    EDEN (Vargaftik et al. 2022, https://arxiv.org/abs/2108.08842, Algorithm 1): coordinates in units of their root mean
    square are rounded to the Lloyd-Max centroids of the standard normal distribution; q decodes to S q with
    S = |z|^2 / <z, q>, which makes it unbiased after a uniformly random rotation. With one bit it is DRIVE
    (Vargaftik et al. 2021, https://arxiv.org/abs/2105.08339): signs, and S in proportion to |z|_2^2 / |z|_1.

    Args:
      bits: b, 1 to 8.
      block_size: Coordinates that share S, which costs 32 bits; that of the rotation.
    """

    def __init__(self, bits: int, block_size: int):
        _check_bits(bits)
        self.bits, self._block_size = bits, block_size

    def encode_vector(self, vector: tf.Tensor, seed: tf.Tensor) -> Code:
        del seed
        rows = blocks(vector, self._block_size)
        centroids = gaussian_centroids(self.bits)
        boundaries = [float(b) for b in (centroids[1:] + centroids[:-1]) / 2]
        root_mean_square = tf.sqrt(tf.reduce_mean(rows**2, axis=1, keepdims=True))
        levels = tf.raw_ops.Bucketize(input=tf.math.divide_no_nan(rows, root_mean_square), boundaries=boundaries)
        rounded = tf.gather(tf.constant(centroids, tf.float32), levels)
        scale = tf.math.divide_no_nan(tf.reduce_sum(rows**2, axis=1), tf.reduce_sum(rows * rounded, axis=1))
        return Code(scale=scale, levels=tf.cast(from_blocks(levels, vector.shape[0]), tf.uint8))

    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        centroids = tf.constant(gaussian_centroids(self.bits), tf.float32)
        rows = blocks(tf.gather(centroids, tf.cast(code["levels"], tf.int32)), self._block_size)
        return from_blocks(rows * code["scale"][:, None], size)


@functools.cache
def gaussian_centroids(bits: int) -> np.ndarray:
    """The 2^bits values that N(0, 1) is best rounded to: the fixed point of Lloyd's algorithm (Max 1960, Lloyd 1982).

    Each value is the mean of the normal distribution between the middles to its neighbours.
    """
    num = 2**bits
    erf = np.vectorize(math.erf, otypes=[np.float64])
    # Levels are as dense as the cube root of the distribution when there are many of them (Panter and Dite 1951),
    # which is normal too, three times as wide.
    grid = np.linspace(-12, 12, 200_001)
    centroids = np.interp((np.arange(num) + 0.5) / num, (1 + erf(grid / math.sqrt(6))) / 2, grid)
    for _ in range(2_000):
        middles = (centroids[1:] + centroids[:-1]) / 2
        edges = np.concatenate([[-np.inf], middles, [np.inf]])
        density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
        # Both tails by the smaller of the two probabilities, as 1 - tiny loses digits.
        upper = np.array([math.erfc(e / math.sqrt(2)) / 2 for e in np.abs(edges)])
        below = np.where(edges < 0, upper, 1 - upper)
        mass = np.where(edges[:-1] >= 0, upper[:-1] - upper[1:], below[1:] - below[:-1])
        moved = (density[:-1] - density[1:]) / mass
        if np.max(np.abs(moved - centroids)) < 1e-9:
            break
        centroids = moved
    return (centroids - centroids[::-1]) / 2


def _check_bits(bits: Any):
    if bits not in range(1, 9):
        raise ValueError(f"bits are 1 to 8, and {bits} is not.")


class Rotated(VectorCompressor):
    """Rotates blocks by the randomized Hadamard transform and compresses what comes out.

    y = H D x / sqrt(n), with H the Walsh-Hadamard matrix and D random signs (Ailon and Chazelle 2009; Suresh et al.
    2017, https://arxiv.org/abs/1611.00429, section 3). TFF's `HadamardTransformFactory` seeds D by the clock, gives all
    clients of a round the same one, and fills every tensor up to a power of two, which may double what is sent. Here
    every client has signs of its own, so that the errors of many clients average out, and the vector is cut into blocks
    of a power of two; of a vector shorter than a block as much is filled up.

    Args:
      inner: Compresses the rotated vector, of whole blocks.
      block_size: A power of two.
    """

    def __init__(self, inner: VectorCompressor, block_size: int = 4096):
        if block_size < 2 or block_size & (block_size - 1):
            raise ValueError(f"block_size={block_size}: must be a power of two, at least 2.")
        self._inner, self._block_size, self.unbiased = inner, block_size, inner.unbiased

    def encode_vector(self, vector: tf.Tensor, seed: tf.Tensor) -> Code:
        rows = blocks(vector, self._block_size)
        rotated = hadamard_transform(rows * random_signs(rows.shape, seed))
        inner = self._inner.encode_vector(tf.reshape(rotated, [-1]), fold_in(seed, 1))
        return Code(rotation_seed=tf.convert_to_tensor(seed, tf.int64), rotated=inner)

    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        num_blocks = -(-size // self._block_size)
        rotated = self._inner.decode_vector(code["rotated"], num_blocks * self._block_size)
        rows = tf.reshape(rotated, [num_blocks, self._block_size])
        return from_blocks(hadamard_transform(rows) * random_signs(rows.shape, code["rotation_seed"]), size)


def hadamard_transform(rows: tf.Tensor) -> tf.Tensor:
    """The orthonormal Walsh-Hadamard transform of rows [n, d], d a power of two: rows H_d / sqrt(d), its own inverse.

    H_d is in the natural (Sylvester's) order.
    """
    size, left = rows.shape[1], rows.shape[1]
    # H_d is the Kronecker product of smaller ones: each is applied to the first axis, which then becomes the last.
    while left > 1:
        factor = min(left, _HADAMARD_FACTOR)
        left //= factor
        parts = tf.reshape(rows, [-1, factor, size // factor])
        rows = tf.reshape(tf.matmul(parts, tf.constant(_hadamard(factor)), transpose_a=True), [-1, size])
    return rows


def _hadamard(size):
    matrix = np.ones([1, 1])
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / np.sqrt(size)).astype(np.float32)


def random_signs(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Signs by fair coins, 1.0 or -1.0, that a seed int64[2] decides."""
    coins = tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32, alg=PHILOX)
    return tf.cast(2 * coins - 1, tf.float32)
