"""DP-SGD inside of the client."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Callable

import tensorflow as tf

from tff_tx.algorithms.capabilities import CLIENT_TRANSFORMS, EXAMPLE_DP
from tff_tx.algorithms.client.noise import (
    GaussianNoise,
    add_noise,
    clip_factors,
    split_seed,
    squared_norms,
    weighted_sum,
)
from tff_tx.algorithms.client.transforms import ClientTransform, Context
from tff_tx.core.errors import UserError
from tff_tx.models import SEED, vectorized_map

_EXAMPLE_NOISE = -1


@dataclasses.dataclass(frozen=True)
class DpSgd(GaussianNoise, ClientTransform):
    """Replaces the gradient of a batch by the noised mean of clipped gradients of its examples.

    (1/M) (sum_i min(1, C / |g_i|) g_i + N(0, (sigma C)^2)), Abadi et al. 2016, "Deep learning with differential
    privacy", Algorithm 1, with g_i the gradient of the mean loss over microbatch i and M the number of microbatches in
    a whole batch. Gradients that are not finite count as zero.

    The unit is an example of a client, or a microbatch of them. Adjacent are data in which one is replaced by nothing,
    their number being known (zero-out, Kairouz et al. 2021): each step adds noise to a sum in which a unit's part is
    at most `clip`.

    Attributes:
      batch_size: Examples in a whole batch.
      num_microbatches: M, into which a whole batch is parted; None: as many as examples. The noised sum is divided by
        it also where a client's last batch is smaller, as by the expected lot size in the paper.
    """

    batch_size: int = 1
    num_microbatches: int | None = None

    requires = frozenset({CLIENT_TRANSFORMS, EXAMPLE_DP})

    def __post_init__(self):
        super().__post_init__()
        if self.num_microbatches is not None and (self.num_microbatches < 1 or self.batch_size % self.num_microbatches):
            raise UserError(
                f"{self.num_microbatches} microbatches do not part a batch of {self.batch_size} examples evenly: "
                "choose a divisor of the batch size."
            )

    @property
    def unit(self) -> int:
        """Examples in a microbatch."""
        return self.batch_size // self._number

    @property
    def _number(self) -> int:
        return self.num_microbatches or self.batch_size

    def gradients(self, context: Context, trained: tuple, x: Any, y: Any, loss_fn: Callable) -> tuple:
        """The mean without noise. Gradients of embedding tables are `tf.IndexedSlices`."""
        model, (inputs, seed) = context.model, split_seed(x)
        batch_examples = tf.shape(tf.nest.flatten(y)[0])[0]

        def gradients_of(microbatch, seed):
            x, y = microbatch
            x = x if seed is None else collections.OrderedDict([*x.items(), (SEED, seed)])
            with tf.GradientTape() as tape:
                tape.watch(trained)
                output = model.predict_on_batch((trained, context.frozen), x, training=True)
                total = loss_fn(x, y, output, model.loss(output, y))
            gradients = tape.gradient(total, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            rows = tuple((g.values, g.indices) if isinstance(g, tf.IndexedSlices) else g for g in gradients)
            return rows, output

        microbatches = _parted((inputs, y), batch_examples, self.unit)
        gradients, outputs = vectorized_map(gradients_of, microbatches, seed)
        factors = clip_factors(squared_norms(gradients), self.clip)
        total = tuple(weighted_sum(g, factors / self._number, w) for g, w in zip(gradients, trained))
        output = tf.reshape(outputs, tf.concat([[-1], tf.shape(outputs)[2:]], 0))[:batch_examples]
        return total, model.loss(output, y), output

    def privatize(self, gradients: tuple, x: Any) -> tuple:
        return add_noise(gradients, self.stddev / self._number, split_seed(x)[1], _EXAMPLE_NOISE)


def _parted(batch, batch_examples, size):
    """A batch as microbatches, [M, size, ...]; the last is filled up with examples of its own."""
    count = (batch_examples + size - 1) // size
    if size > 1:
        first, places = (count - 1) * size, tf.range(count * size)
        filled = tf.where(places < batch_examples, places, first + (places - first) % (batch_examples - first))
        batch = tf.nest.map_structure(lambda t: tf.gather(t, filled), batch)
    return tf.nest.map_structure(lambda t: tf.reshape(t, tf.concat([[count, size], tf.shape(t)[1:]], 0)), batch)
