"""Privacy inside of the client: updates clipped and noised before they leave it, and gradients of single examples.

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
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.models import SEED, vectorized_map

# Folded into the seed of a batch, whose dropout counts its own draws from 1 upwards.
_EXAMPLE_NOISE, _UPDATE_NOISE = -1, -2


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


@dataclasses.dataclass(frozen=True)
class LocalPrivacy(GaussianNoise):
    """Local DP: a client's update leaves it clipped and noised, and the server need not be trusted.

    Kasiviswanathan et al. 2011, "What can we learn privately?". The record is the update as a whole: other data of the
    client move what is noised by 2 `clip` at most, no data at all by `clip`.
    """

    def release(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The update as it leaves the client: min(1, C / |u|) u + N(0, (sigma C)^2).

        Args:
          update: Of the trainable weights; zeros take its place if it is not finite.
          seed: int64 [2], of this client and round alone.
        """
        batch_of_one = [u[None] for u in update]
        factors = clip_factors(squared_norms(batch_of_one), self.clip)
        clipped = tuple(weighted_sum(u, factors, u[0]) for u in batch_of_one)
        return _add_noise(clipped, self.stddev, seed, _UPDATE_NOISE)


@dataclasses.dataclass(frozen=True)
class ExamplePrivacy(GaussianNoise):
    """DP-SGD in the client (Abadi et al. 2016, "Deep learning with differential privacy", Algorithm 1).

    The unit is an example of a client, or a microbatch of them. Adjacent are data in which one is replaced by nothing,
    their number being known (zero-out, Kairouz et al. 2021): each step adds noise to a sum in which a unit's part is
    at most `clip`.

    Attributes:
      batch_size: Examples in a whole batch.
      num_microbatches: Into how many groups a whole batch is parted, whose mean gradients are clipped; None for as many
        as examples. The noised sum is divided by it also where a client's last batch is smaller, as by the expected
        lot size in the paper.
    """

    batch_size: int = 1
    num_microbatches: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.num_microbatches is not None and (self.num_microbatches < 1 or self.batch_size % self.num_microbatches):
            raise UserError(
                f"{self.num_microbatches} microbatches do not part a batch of {self.batch_size} examples evenly: "
                "choose a divisor of the batch size."
            )

    def gradients(
        self,
        model: tff.learning.models.FunctionalModel,
        trained: tuple,
        frozen: tuple,
        x: Any,
        y: Any,
        term: Callable[[Any, Any, tf.Tensor], tf.Tensor] | None = None,
    ) -> tuple[tuple, tf.Tensor, tf.Tensor]:
        """The noised mean of clipped gradients.

        (1/M) (sum_i min(1, C / |g_i|) g_i + N(0, (sigma C)^2)), g_i the gradient of the mean loss over microbatch i
        and M the number of microbatches in a whole batch. Gradients that are not finite count as zero.

        Args:
          model: The model.
          trained: Its trainable weights.
          frozen: The others.
          x: A batch of inputs, with the seed of the batch if there is noise.
          y: Its labels.
          term: If not None, what is added to the loss of a microbatch, from (x, y, predictions).

        Returns:
          (gradients, loss, predictions). Without noise, gradients of embedding tables are `tf.IndexedSlices`.
        """
        number = self.num_microbatches or self.batch_size
        inputs, seed = _part_seed(x)
        batch_examples = tf.shape(tf.nest.flatten(y)[0])[0]

        def gradients_of(microbatch, seed):
            x, y = microbatch
            x = x if seed is None else collections.OrderedDict([*x.items(), (SEED, seed)])
            with tf.GradientTape() as tape:
                tape.watch(trained)
                output = model.predict_on_batch((trained, frozen), x, training=True)
                loss = model.loss(output, y)
                total = loss if term is None else loss + term(x, y, output)
            gradients = tape.gradient(total, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            rows = tuple((g.values, g.indices) if isinstance(g, tf.IndexedSlices) else g for g in gradients)
            return rows, output

        microbatches = _parted((inputs, y), batch_examples, self.batch_size // number)
        gradients, outputs = vectorized_map(gradients_of, microbatches, seed)
        factors = clip_factors(squared_norms(gradients), self.clip)
        total = tuple(weighted_sum(g, factors / number, w) for g, w in zip(gradients, trained))
        output = tf.reshape(outputs, tf.concat([[-1], tf.shape(outputs)[2:]], 0))[:batch_examples]
        return _add_noise(total, self.stddev / number, seed, _EXAMPLE_NOISE), model.loss(output, y), output


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


def _add_noise(values: Sequence[Any], stddev: float, seed: tf.Tensor | None, purpose: int) -> tuple:
    if not stddev:
        return tuple(values)
    if seed is None:
        raise ValueError(f"noise is drawn from a client's seed, and its inputs have none named {SEED!r}.")
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


def _part_seed(x):
    if not isinstance(x, collections.abc.Mapping) or SEED not in x:
        return x, None
    return collections.OrderedDict((name, value) for name, value in x.items() if name != SEED), x[SEED]


def _parted(batch, batch_examples, size):
    """A batch as microbatches, [M, size, ...]; the last is filled up with examples of its own."""
    count = (batch_examples + size - 1) // size
    if size > 1:
        first, places = (count - 1) * size, tf.range(count * size)
        filled = tf.where(places < batch_examples, places, first + (places - first) % (batch_examples - first))
        batch = tf.nest.map_structure(lambda t: tf.gather(t, filled), batch)
    return tf.nest.map_structure(lambda t: tf.reshape(t, tf.concat([[count, size], tf.shape(t)[1:]], 0)), batch)
