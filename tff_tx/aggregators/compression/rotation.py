"""Rotation before quantization: it makes coordinates alike, so that few levels serve them all."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tff_tx.aggregators.compression.compressor import PHILOX, Code, VectorCompressor, blocks, fold_in, from_blocks

_FACTOR = 32


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
        rotated = hadamard_transform(rows * _signs(rows.shape, seed))
        inner = self._inner.encode_vector(tf.reshape(rotated, [-1]), fold_in(seed, 1))
        return Code(rotation_seed=tf.convert_to_tensor(seed, tf.int64), rotated=inner)

    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        num_blocks = -(-size // self._block_size)
        rotated = self._inner.decode_vector(code["rotated"], num_blocks * self._block_size)
        rows = tf.reshape(rotated, [num_blocks, self._block_size])
        return from_blocks(hadamard_transform(rows) * _signs(rows.shape, code["rotation_seed"]), size)


def hadamard_transform(rows: tf.Tensor) -> tf.Tensor:
    """The orthonormal Walsh-Hadamard transform of each row, which is its own inverse.

    Args:
      rows: float32 [n, d], d a power of two.

    Returns:
      rows H_d / sqrt(d), in the natural (Sylvester's) order.
    """
    size, left = rows.shape[1], rows.shape[1]
    # H_d is the Kronecker product of smaller ones: each is applied to the first axis, which then becomes the last.
    while left > 1:
        factor = min(left, _FACTOR)
        left //= factor
        parts = tf.reshape(rows, [-1, factor, size // factor])
        rows = tf.reshape(tf.matmul(parts, tf.constant(_hadamard(factor)), transpose_a=True), [-1, size])
    return rows


def _hadamard(size):
    matrix = np.ones([1, 1])
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / np.sqrt(size)).astype(np.float32)


def _signs(shape, seed):
    coins = tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32, alg=PHILOX)
    return tf.cast(2 * coins - 1, tf.float32)
