"""What crosses the cut: rounded to its dtype or compressed, clipped and noised."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.aggregators import compression
from tff_tx.config.vertical import VerticalConfig
from tff_tx.core import codec
from tff_tx.core.errors import UserError
from tff_tx.privacy import accounting

VERSION = 1


def require_version(said: Mapping[str, Any]) -> None:
    """Rejects messages of another version.

    Raises:
      UserError: If they are.
    """
    if said.get("version") != VERSION:
        found = said.get("version") or "none"
        raise UserError(
            f"its messages are of version {VERSION}, those of the party with the labels of {found}: use the same "
            "release of tff_tx."
        )


def to_wire(array: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 values in the dtype that is sent; bfloat16 as uint16, its bit pattern."""
    if dtype == "bfloat16":
        return tf.bitcast(tf.cast(array, tf.bfloat16), tf.uint16).numpy()
    return np.asarray(array, dtype)


def from_wire(array: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 values of what `to_wire` made."""
    if dtype == "bfloat16":
        return tf.cast(tf.bitcast(array, tf.bfloat16), tf.float32).numpy()
    return np.asarray(array, np.float32)


class Wire:
    """How activations and gradients are sent: rounded, or compressed.

    Attributes:
      cut_size: Width of a token.

    Args:
      settings: Of the federation.
    """

    def __init__(self, settings: VerticalConfig):
        self.cut_size, self._dtype, self._codes = settings.cut_size, settings.cut_dtype, {}
        name = settings.cut_compression
        self._compressor = None if name == "none" else compression.build_compressor(name)

    def pack(self, values: np.ndarray, key: np.ndarray) -> list[np.ndarray]:
        """Arrays of float32 values; `key`, int64 [2], decides how they are rounded by chance."""
        if self._compressor is None:
            return [to_wire(values, self._dtype)]
        code = self._functions(values.shape)[0](tf.constant(values), tf.constant(key))
        return [array.numpy() for array in tf.nest.flatten(code)]

    def unpack(self, arrays: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Float32 values of a shape, of what `pack` made.

        Raises:
          ValueError: If the arrays are none of such values, or values are not finite.
        """
        if self._compressor is None:
            values = from_wire(arrays[0], self._dtype) if len(arrays) == 1 else None
        else:
            encode, decode = self._functions(tuple(shape))
            code = encode.structured_outputs
            sent = [tf.TensorSpec(array.shape, array.dtype) for array in arrays]
            fits = sent == [tf.TensorSpec(spec.shape, spec.dtype) for spec in tf.nest.flatten(code)]
            values = decode(*map(tf.constant, arrays)).numpy() if fits else None
        if values is None or values.shape != tuple(shape):
            raise ValueError(f"these are no values of shape {list(shape)}")
        if not np.isfinite(values).all():
            raise ValueError("there are values that are not finite")
        return values

    def size(self, arrays: Sequence[np.ndarray]) -> int:
        """Bytes of what `pack` made as they are sent, after entropy coding if they are compressed."""
        if self._compressor is None:
            return sum(array.nbytes for array in arrays)
        return len(codec.encode(arrays))

    def _functions(self, shape):
        """Graphs that encode and decode values of a shape, made once for each."""
        if shape not in self._codes:
            values, key = tf.TensorSpec(shape), tf.TensorSpec([2], tf.int64)
            encode = tf.function(lambda values, key: self._compressor.encode([values], key))
            encode = encode.get_concrete_function(values, key)
            code = encode.structured_outputs

            @tf.function(input_signature=[tf.TensorSpec(s.shape, s.dtype) for s in tf.nest.flatten(code)])
            def decode(*arrays):
                return self._compressor.decode(tf.nest.pack_sequence_as(code, arrays), [values])[0]

            self._codes[shape] = encode, decode
        return self._codes[shape]


@dataclasses.dataclass(frozen=True)
class Guard:
    """Bounds and noise on what is sent of each row.

    Attributes:
      clip: L2 norm of all tokens of a row together; None: no bound.
      noise_multiplier: Standard deviation of the noise in each coordinate, in units of `clip`.
    """

    clip: float | None = None
    noise_multiplier: float = 0.0

    def __call__(self, values: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Float32 [batch, ...] to the same; differentiable, with noise decided by `key`, int64 [2]."""
        if self.clip is None:
            return values
        noise = tf.random.stateless_normal(tf.shape(values), key, alg="philox")
        return self.clipped(values) + self.clip * self.noise_multiplier * noise

    def clipped(self, values: tf.Tensor) -> tf.Tensor:
        """The same without noise."""
        if self.clip is None:
            return values
        axes = list(range(1, values.shape.rank))
        norms = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(values), axes, keepdims=True), 1e-24))
        return values * tf.minimum(1.0, self.clip / norms)

    def epsilon(self, releases: int, delta: float) -> float:
        """Epsilon of a row that is released so often, against any other row in its place; infinity without noise.

        The sensitivity is twice the clip (replacement), and nothing is gained by sampling: who receives it knows which
        rows a batch has. It holds where the row decides nothing else that is released, as in prediction; of rows that
        are trained on see `private_steps.epsilons`.
        """
        if self.clip is None or not self.noise_multiplier:
            return float("inf")
        return accounting.gaussian_epsilon(releases * 2.0 / self.noise_multiplier**2, delta)
