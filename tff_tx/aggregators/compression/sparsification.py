"""Sparsifiers send few coordinates; low-rank sketches send a matrix as the product of two thin ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tff_tx.aggregators.compression.compressor import PHILOX, Code, Compressor, VectorCompressor, fold_in


class TopK(VectorCompressor):
    """The largest coordinates by magnitude (Aji and Heafield 2017, https://arxiv.org/abs/1704.05021).

    Biased: what is left out is lost, unless error feedback (`runtime.ClientCompression`) sends it later.

    Args:
      fraction: Of all coordinates, in (0, 1]; at least one is sent.
    """

    def __init__(self, fraction: float):
        self._fraction = _checked(fraction)

    def encode_vector(self, vector: tf.Tensor, seed: tf.Tensor) -> Code:
        del seed
        chosen = tf.math.top_k(tf.abs(vector), _count(self._fraction, vector.shape[0]), sorted=False).indices
        indices = tf.sort(chosen)  # ascending ones take a third of the bytes
        return Code(indices=indices, values=tf.gather(vector, indices))

    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        return tf.scatter_nd(code["indices"][:, None], code["values"], [size])


class RandomK(VectorCompressor):
    """Random coordinates; their places follow from the seed and are not sent.

    Scaled by d/k it is unbiased (Konečný et al. 2016, https://arxiv.org/abs/1610.05492, section 2: random mask). With
    error feedback it must not be scaled: what is not sent then comes later (Stich, Cordonnier and Jaggi 2018,
    https://arxiv.org/abs/1809.07599, section 2.2).

    Args:
      fraction: Of all coordinates, in (0, 1]; at least one is sent.
      scaled: Whether values are scaled by d/k.
    """

    def __init__(self, fraction: float, scaled: bool = True):
        self._fraction, self.unbiased = _checked(fraction), scaled

    def encode_vector(self, vector: tf.Tensor, seed: tf.Tensor) -> Code:
        seed = tf.convert_to_tensor(seed, tf.int64)
        return Code(seed=seed, values=tf.gather(vector, self._indices(vector.shape[0], seed)))

    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        indices = self._indices(size, code["seed"])
        scale = size / indices.shape[0] if self.unbiased else 1.0
        return tf.scatter_nd(indices[:, None], code["values"] * scale, [size])

    def _indices(self, size, seed):
        draws = tf.random.stateless_uniform([size], seed, minval=None, maxval=None, dtype=tf.int32, alg=PHILOX)
        return tf.math.top_k(draws, _count(self._fraction, size), sorted=False).indices


def _checked(fraction):
    if not 0 < fraction <= 1:
        raise ValueError(f"a fraction of the coordinates is above 0 and at most 1, and {fraction} is not.")
    return fraction


def _count(fraction, size):
    return max(1, round(fraction * size))


class LowRank(Compressor):
    """P Q^T in place of each matrix M, from a step of subspace iteration.

    PowerSGD (Vogels, Karimireddy and Jaggi 2019, https://arxiv.org/abs/1905.13727, Algorithm 1): P = orth(M Q),
    Q = M^T P. There, machines average P before they make Q, and start from the Q of the step before. A round of a
    federation is one message from each client, most of whom were not in the round before: here every client makes its
    own P and Q from a random start, and more iterations stand in for the warm start (appendix G compares the two).
    Biased: made for error feedback (section 3).

    A tensor of more than two axes is a matrix whose columns are its last axis. Vectors, and matrices that would not
    shrink, are sent as they are.

    Args:
      rank: Columns of P and Q.
      iterations: At least 1.
    """

    def __init__(self, rank: int, iterations: int = 2):
        if rank < 1 or iterations < 1:
            raise ValueError(f"rank and iterations are at least 1, and {rank} and {iterations} are not.")
        self._rank, self._iterations = rank, iterations

    def encode(self, tensors: Sequence[tf.Tensor], seed: tf.Tensor) -> Code:
        code = Code()
        for i, tensor in enumerate(tensors):
            shape = self._matrix_shape(tensor.shape)
            if shape is None:
                code[f"whole_{i}"] = tensor
                continue
            matrix = tf.reshape(tensor, shape)
            q = tf.random.stateless_normal([shape[1], self._rank], fold_in(seed, i), alg=PHILOX)
            for _ in range(self._iterations):
                p, _ = tf.linalg.qr(tf.matmul(matrix, q))
                q = tf.matmul(matrix, p, transpose_a=True)
            code[f"p_{i}"], code[f"q_{i}"] = p, q
        return code

    def decode(self, code: Code, specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
        def tensor(i, spec):
            if self._matrix_shape(spec.shape) is None:
                return code[f"whole_{i}"]
            return tf.reshape(tf.matmul(code[f"p_{i}"], code[f"q_{i}"], transpose_b=True), spec.shape)

        return [tensor(i, spec) for i, spec in enumerate(specs)]

    def _matrix_shape(self, shape):
        """The shape as a matrix, or None where a sketch would not be smaller."""
        if len(shape) < 2:
            return None
        rows, columns = math.prod(shape[:-1]), shape[-1]
        if self._rank * (rows + columns) >= rows * columns or self._rank > min(rows, columns):
            return None
        return rows, columns
