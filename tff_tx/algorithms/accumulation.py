"""Gradient accumulation: a batch in parts, one after another, and one step of the optimizer at the end of it.

What a part needs in memory is freed before the next. The client's loop over batches becomes one over parts, so that
the graph of a step is no larger, and the gradients' sums are a part of the loop's state.
"""

from __future__ import annotations

import collections
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.models import SEED


def in_parts(batches: tf.data.Dataset, number: int) -> tf.data.Dataset:
    """Cuts each batch into parts.

    A batch of n examples becomes parts of n / `number` examples, rounded up; the last of them may be smaller. What has
    no dimension of unknown size in front belongs to the batch as a whole and is in each part; but a seed is another
    one in each.

    Args:
      batches: Of (x, y).
      number: Parts of a batch, at most.

    Returns:
      Dataset of ((x, y), ends): a part, and whether it is its batch's last, bool.
    """
    is_cut = [bool(spec.shape.rank) and spec.shape[0] is None for spec in tf.nest.flatten(batches.element_spec)]

    def cut(*batch):
        leaves = tf.nest.flatten(batch)
        examples = tf.shape(leaves[is_cut.index(True)], tf.int64)[0]
        size = tf.maximum((examples + number - 1) // number, 1)
        count = (examples + size - 1) // size

        def part(i):
            cuts = [leaf[i * size : (i + 1) * size] if of_part else leaf for leaf, of_part in zip(leaves, is_cut)]
            x, y = tf.nest.pack_sequence_as(batch, cuts)
            if isinstance(x, collections.abc.Mapping) and SEED in x:
                x[SEED] = tf.random.experimental.stateless_fold_in(x[SEED], i)
            return (x, y), tf.equal(i + 1, count)

        return tf.data.Dataset.range(count).map(part)

    return batches.flat_map(cut)


class Sums:
    """Sums over the parts of a batch, of which means are those of the batch as a whole.

    A part counts by what its loss is the mean over: labelled items for a model with an `Objective`, else examples.

    Attributes:
      leaves: As the loop's state holds them: items and examples so far, float32, and sums of gradients and losses.
    """

    def __init__(self, leaves: tuple):
        self.leaves = leaves

    @classmethod
    def zero(cls, weights: tuple) -> Sums:
        """Of no part, for these trainable weights."""
        return cls((tf.constant(0.0), tf.constant(0.0), (tuple(map(tf.zeros_like, weights)), tf.constant(0.0))))

    def add(self, items: tf.Tensor, examples: tf.Tensor, gradients: tuple, loss: tf.Tensor) -> Sums:
        """With one part more, of so many items and examples, its mean gradients and mean loss."""
        all_items, all_examples, values = self.leaves
        items = tf.cast(items, tf.float32)
        dense = tuple(tf.convert_to_tensor(g) for g in gradients)  # rows of an embedding table as a table
        values = tf.nest.map_structure(lambda total, v: total + tf.cast(items, v.dtype) * v, values, (dense, loss))
        return Sums((all_items + items, all_examples + tf.cast(examples, tf.float32), values))

    @property
    def means(self) -> tuple[tuple, tf.Tensor]:
        """The gradients and the loss of all parts together."""
        items, _, values = self.leaves
        return tf.nest.map_structure(lambda total: tf.math.divide_no_nan(total, tf.cast(items, total.dtype)), values)

    @property
    def examples(self) -> tf.Tensor:
        """Of all parts together, float32."""
        return self.leaves[1]


def items(model: tff.learning.models.FunctionalModel, y: Any, output: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
    """What the loss is the mean over: labelled items, or examples for a model that does not tell."""
    objective = getattr(model, "objective", None)
    return tf.shape(output)[0] if objective is None else objective.sums_fn(output, y, loss)["items"]


def where(condition: tf.Tensor, this: Any, other: Any) -> Any:
    """One of two structures of tensors.

    Both are computed: in the executor of clients' steps there is no control flow.
    """
    return tf.nest.map_structure(lambda a, b: tf.where(condition, a, b), this, other)
