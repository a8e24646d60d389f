"""What crosses the cut: rounded to its dtype, clipped and noised."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tff_tx.privacy import accounting

VERSION = 1


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
        axes = list(range(1, values.shape.rank))
        norms = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(values), axes, keepdims=True), 1e-24))
        values = values * tf.minimum(1.0, self.clip / norms)
        noise = tf.random.stateless_normal(tf.shape(values), key, alg="philox")
        return values + self.clip * self.noise_multiplier * noise

    def epsilon(self, releases: int, delta: float) -> float:
        """Epsilon of a row that is released so often, against any other row in its place; infinity without noise.

        The sensitivity is twice the clip (replacement), and nothing is gained by sampling: who receives it knows which
        rows a batch has. It holds where the row decides nothing else that is released, as in prediction. A row that is
        trained on also moves the weights, without noise, and by them what is sent of all other rows.
        """
        if self.clip is None or not self.noise_multiplier:
            return float("inf")
        return accounting.gaussian_epsilon(releases * 2.0 / self.noise_multiplier**2, delta)
