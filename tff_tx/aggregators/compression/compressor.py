"""Compressors: tensors to a smaller code, and back to approximately the same tensors.

A code is an `OrderedDict` of tensors of static shape, traced into the client's graph; `codec.encode` makes the bytes of
it. Decoding needs the code and the shapes of the tensors alone: a seed that both sides need is part of the code.
"""

from __future__ import annotations

import abc
import collections
import math
from collections.abc import Sequence

import tensorflow as tf

PHILOX = tf.random.Algorithm.PHILOX  # the same numbers on every device

Code = collections.OrderedDict


class Compressor(abc.ABC):
    """Compresses a list of tensors."""

    unbiased: bool = False
    """Whether the mean over seeds of what is decoded is what was encoded. Others need error feedback."""

    @abc.abstractmethod
    def encode(self, tensors: Sequence[tf.Tensor], seed: tf.Tensor) -> Code:
        """Encodes.

        Args:
          tensors: float32 of static shapes.
          seed: int64[2]; decides everything random, nothing else does.
        """

    @abc.abstractmethod
    def decode(self, code: Code, specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
        """Decodes into tensors of the given specs, those of what was encoded."""


class VectorCompressor(Compressor):
    """Compresses all tensors as one long vector."""

    def encode(self, tensors: Sequence[tf.Tensor], seed: tf.Tensor) -> Code:
        return self.encode_vector(tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0), seed)

    def decode(self, code: Code, specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
        sizes = [math.prod(s.shape) for s in specs]
        parts = tf.split(self.decode_vector(code, sum(sizes)), sizes)
        return [tf.reshape(part, spec.shape) for part, spec in zip(parts, specs)]

    @abc.abstractmethod
    def encode_vector(self, vector: tf.Tensor, seed: tf.Tensor) -> Code:
        """Encodes float32[d], with a seed int64[2]."""

    @abc.abstractmethod
    def decode_vector(self, code: Code, size: int) -> tf.Tensor:
        """Decodes to float32[size]."""


def blocks(vector: tf.Tensor, block_size: int) -> tf.Tensor:
    """A vector as rows [n, block_size], the last one filled up with zeros."""
    missing = -vector.shape[0] % block_size
    return tf.reshape(tf.pad(vector, [[0, missing]]), [-1, block_size])


def from_blocks(rows: tf.Tensor, size: int) -> tf.Tensor:
    """The vector of `blocks`."""
    return tf.reshape(rows, [-1])[:size]


def fold_in(seed: tf.Tensor, data: tf.Tensor | int) -> tf.Tensor:
    """Another seed int64[2], which `data`, an integer, decides."""
    # TensorFlow gives the seed the type of the data.
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(data, tf.int64))
