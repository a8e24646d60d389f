"""Gradient accumulation: a batch in parts, one after another, and one step of the optimizer at the end of it.

The memory of a part is freed before the next. The client's loop over batches becomes one over parts, so that the graph
of a step is no larger, and the gradients' sums are part of the loop's state.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Callable, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.client.transforms import ClientTransform, Context, Part
from tff_tx.core.errors import UserError, setting
from tff_tx.models import SEED


@dataclasses.dataclass(frozen=True)
class Accumulation(ClientTransform):
    """Computes the gradient of a batch as the mean over parts of it, weighted by what the loss is the mean over.

    Weights are labelled items for a model with an `Objective`, else examples, so that the step is that of the batch as
    a whole. Clipped sums of DP-SGD are added up, and noise is added once a batch.

    Attributes:
      steps: Parts of a batch, at most; 1 is plain training.

    Raises:
      UserError: At construction, if `steps` is less than 1.
    """

    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise UserError(f"{setting('client.gradient_accumulation_steps')}={self.steps}: must be at least 1.")

    @property
    def is_identity(self) -> bool:
        return self.steps == 1

    def cut(self, batches: tf.data.Dataset, unit: int) -> tf.data.Dataset:
        return in_parts(batches, self.steps, unit)

    def memory(self, context: Context) -> Sums:
        return Sums.zero(context.server)

    def gather(self, context: Context, memory: Sums, learned: Any, part: Part, step: Callable) -> tuple[Any, Sums]:
        (is_last,) = part.marks
        total = memory.add(_items(context.model, part), part)
        # Both are computed: in the executor of clients' steps there is no control flow.
        learned = _where(is_last, step(learned, *total.means(part.unit), total.examples), learned)
        return learned, _where(is_last, Sums.zero(context.server), total)


def in_parts(batches: tf.data.Dataset, number: int, unit: int = 1) -> tf.data.Dataset:
    """Cuts each batch into parts.

    A batch of n examples becomes parts of n / `number` examples, rounded up to a multiple of `unit`; the last of them
    may be smaller. Components without a leading dimension of unknown size belong to the batch as a whole and are in
    each part; but each part has a seed of its own.

    Args:
      batches: Dataset of (x, y).
      number: Parts of a batch, at most.
      unit: Examples that stay together.

    Returns:
      Dataset of (x, y, is_last): a part, and whether it is its batch's last, bool.
    """
    is_cut = [bool(spec.shape.rank) and spec.shape[0] is None for spec in tf.nest.flatten(batches.element_spec)]

    def cut(*batch):
        leaves = tf.nest.flatten(batch)
        examples = tf.shape(leaves[is_cut.index(True)], tf.int64)[0]
        size = tf.maximum((examples + number * unit - 1) // (number * unit), 1) * unit
        count = (examples + size - 1) // size

        def part(i):
            cuts = [leaf[i * size : (i + 1) * size] if of_part else leaf for leaf, of_part in zip(leaves, is_cut)]
            x, y = tf.nest.pack_sequence_as(batch, cuts)
            if isinstance(x, collections.abc.Mapping) and SEED in x:
                x[SEED] = tf.random.experimental.stateless_fold_in(x[SEED], i)
            return x, y, tf.equal(i + 1, count)

        return tf.data.Dataset.range(count).map(part)

    return batches.flat_map(cut)


class Sums(NamedTuple):
    """Sums over the parts of a batch.

    Attributes:
      items: Labelled items or examples so far, float32.
      examples: float32.
      gradients: Sums of gradients times items, or of clipped sums.
      loss: Sum of mean losses times items.
    """

    items: tf.Tensor
    examples: tf.Tensor
    gradients: tuple
    loss: tf.Tensor

    @classmethod
    def zero(cls, weights: tuple) -> Sums:
        """Of no part, for these trainable weights."""
        return cls(tf.constant(0.0), tf.constant(0.0), tuple(map(tf.zeros_like, weights)), tf.constant(0.0))

    def add(self, items: tf.Tensor, part: Part) -> Sums:
        """With one part more, of so many items."""
        items = tf.cast(items, tf.float32)
        factor = items if part.unit is None else tf.constant(1.0)
        dense = (tf.convert_to_tensor(g) for g in part.gradients)  # rows of an embedding table as a table
        return Sums(
            self.items + items,
            self.examples + tf.cast(part.examples, tf.float32),
            tuple(total + tf.cast(factor, g.dtype) * g for total, g in zip(self.gradients, dense)),
            self.loss + items * part.loss,
        )

    def means(self, unit: int | None) -> tuple[tuple, tf.Tensor]:
        """The gradients and the loss of all parts together."""
        loss = tf.math.divide_no_nan(self.loss, self.items)
        if unit is not None:
            return self.gradients, loss
        return tuple(tf.math.divide_no_nan(g, tf.cast(self.items, g.dtype)) for g in self.gradients), loss


def _items(model: tff.learning.models.FunctionalModel, part: Part) -> tf.Tensor:
    """What the loss is the mean over: labelled items, or examples for a model without an objective."""
    objective = getattr(model, "objective", None)
    if objective is None:
        return tf.shape(part.output)[0]
    return objective.sums_fn(part.output, part.y, part.loss)["items"]


def _where(condition: tf.Tensor, this: Any, other: Any) -> Any:
    return tf.nest.map_structure(lambda a, b: tf.where(condition, a, b), this, other)
