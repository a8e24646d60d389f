"""Sparsifiers: few coordinates are sent, the others count as zero."""

from __future__ import annotations

import tensorflow as tf

from tff_tx.aggregators.compression.compressor import PHILOX, Code, VectorCompressor


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
