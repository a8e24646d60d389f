"""Clipping and seeded Gaussian noise inside of the client.

TensorFlow Privacy has both as optimizers and queries over Keras models and variables: its per-example gradients come
from a map in Python over microbatches or need a `tf.keras.Model` made of layers that it knows
(`fast_gradient_clipping`), which Hugging Face models are not, and its noise is drawn from TensorFlow's global
generator. These follow its semantics (`GaussianSumQuery`, `num_microbatches`) for functional models, with per-example
gradients by vectorization and noise that the client's seed decides.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tff_tx.core.errors import UserError
from tff_tx.models import SEED

NO_SEED = f"noise is drawn from a client's seed, and its inputs have none named {SEED!r}."
"""Error of a model without seeds."""


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """A bound on what one record adds to a sum, and Gaussian noise in proportion.

    Attributes:
      clip: C, the largest L2 norm of a record's contribution, over all trainable weights together; infinity for none.
      noise_multiplier: The noise's standard deviation in units of `clip`.
    """

    clip: float
    noise_multiplier: float = 0.0

    def __post_init__(self):
        if not self.clip > 0:
            raise UserError(f"a clip of {self.clip} would stop all training: choose one above 0.")
        if self.noise_multiplier < 0 or not math.isfinite(self.noise_multiplier):
            raise UserError(f"a noise multiplier of {self.noise_multiplier} is not a number from 0 on: change it.")
        if self.noise_multiplier > 0 and not math.isfinite(self.clip):
            raise UserError(
                f"noise of {self.noise_multiplier} times an infinite clip would drown everything: set the clip."
            )

    @property
    def stddev(self) -> float:
        """The noise's standard deviation in each coordinate of the sum."""
        return self.noise_multiplier * self.clip if self.noise_multiplier else 0.0


def squared_norms(gradients: Sequence[Any]) -> tf.Tensor:
    """|g_i|^2 over all weights together, float32 [M].

    Args:
      gradients: A weight each: float32 [M, ...], or of an embedding table the rows that were used and which these are,
        (float32 [M, n, width], int [M, n]). The same row may be there several times and counts with their sum: the
        squared norm is the sum of the products of all pairs of the same row, so that no table is made.
    """
    total = 0.0
    for gradient in gradients:
        if isinstance(gradient, tuple):
            rows, indices = gradient
            same = tf.equal(indices[:, :, None], indices[:, None, :])
            products = tf.matmul(rows, rows, transpose_b=True)
            total += tf.reduce_sum(tf.where(same, products, 0.0), [1, 2])
        else:
            total += tf.reduce_sum(tf.square(gradient), range(1, gradient.shape.rank))
    return total


def clip_factors(squared: tf.Tensor, clip: float) -> tf.Tensor:
    """min(1, C / |g_i|), and 0 where the norm is not finite; float32 [M]."""
    factors = tf.minimum(1.0, clip * tf.math.rsqrt(tf.maximum(squared, 1e-30))) if math.isfinite(clip) else 1.0
    return tf.where(tf.math.is_finite(squared), factors, 0.0)


def weighted_sum(gradient: Any, factors: tf.Tensor, weight: tf.Tensor) -> Any:
    """sum_i factors_i g_i, of a gradient as `squared_norms` takes it; a factor of 0 leaves out even NaN."""
    values = gradient[0] if isinstance(gradient, tuple) else gradient
    column = tf.reshape(factors, [-1] + [1] * (values.shape.rank - 1))
    scaled = tf.math.multiply_no_nan(values, column)
    if isinstance(gradient, tuple):
        rows = tf.reshape(scaled, tf.concat([[-1], tf.shape(scaled)[2:]], 0))
        return tf.IndexedSlices(rows, tf.reshape(gradient[1], [-1]), tf.shape(weight))
    return tf.reduce_sum(scaled, 0)


def add_noise(values: Sequence[Any], stddev: float, seed: tf.Tensor | None, purpose: int) -> tuple:
    """Adds N(0, stddev^2) to each coordinate; without noise, `tf.IndexedSlices` stay what they are.

    Args:
      values: Dense float32, or `tf.IndexedSlices`.
      stddev: The noise's standard deviation.
      seed: int64 [2], of this draw's batch or update alone; may be None without noise.
      purpose: Negative number folded into the seed, whose positive ones are dropout's.

    Raises:
      ValueError: If there is noise and no seed.
    """
    if not stddev:
        return tuple(values)
    if seed is None:
        raise ValueError(NO_SEED)
    seed = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), tf.constant(purpose, tf.int64))
    noised = []
    for i, value in enumerate(values):
        shape = value.dense_shape if isinstance(value, tf.IndexedSlices) else tf.shape(value)
        own_seed = tf.random.experimental.stateless_fold_in(seed, tf.constant(i, tf.int64))
        noise = stddev * tf.random.stateless_normal(shape, own_seed, alg="philox")
        if isinstance(value, tf.IndexedSlices):
            noised.append(tf.tensor_scatter_nd_add(noise, value.indices[:, None], value.values))
        else:
            noised.append(value + noise)
    return tuple(noised)


def split_seed(x: Any) -> tuple[Any, tf.Tensor | None]:
    """Inputs of a batch without their seed, and the seed if there is one."""
    if not isinstance(x, collections.abc.Mapping) or SEED not in x:
        return x, None
    return collections.OrderedDict((name, value) for name, value in x.items() if name != SEED), x[SEED]
