"""Length bucketing: batches of examples of similar length, which need less padding."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tff_tx import runtime

WINDOW = 8
"""Batches whose examples are sorted together: more of them need less padding, but leave fewer ways to make batches."""


def bucketed(
    examples: tf.data.Dataset,
    batch_size: int,
    pads: Mapping[str, tf.Tensor],
    lengthwise: Sequence[str],
    window: int,
    seed: tf.Tensor,
) -> tf.data.Dataset:
    """Padded batches, each of neighbours in length, in random order.

    The examples of every `window` batches are sorted by length (equally long ones stay in their order), cut into
    batches, and these shuffled; all that a window leaves out of batches of full size is its batch of the longest.

    Args:
      examples: Of features by name, in an order that is random already.
      batch_size: Examples a batch.
      pads: By feature, its value in padding.
      lengthwise: Features that are as long as the example, in their first dimension. The first of them, in which
        padding is no value, measures it.
      window: Batches whose examples are sorted together.
      seed: int64 [2], of the order of batches.
    """

    def cut(number, features):
        lengths = _lengths(features[lengthwise[0]], pads[lengthwise[0]])
        order = tf.argsort(lengths, stable=True)
        count = -(-tf.size(order) // batch_size)

        def batch(place):
            rows = order[place * batch_size : (place + 1) * batch_size]
            longest = tf.reduce_max(tf.gather(lengths, rows))
            return collections.OrderedDict(
                (name, tf.gather(value[:, :longest] if name in lengthwise else value, rows))
                for name, value in features.items()
            )

        window_seed = tf.random.experimental.stateless_fold_in(seed, number)
        places = tf.random.experimental.stateless_shuffle(tf.range(count), window_seed, alg="philox")
        return tf.data.Dataset.from_tensor_slices(places).map(batch)

    windows = examples.padded_batch(window * batch_size, padding_values=pads)
    return runtime.numbered(windows).flat_map(cut)


def padding_share(datasets: Sequence[tf.data.Dataset]) -> float:
    """Share of padding among the positions of batches of texts, (x with `attention_mask`, y), from 0 to 1."""
    tokens = positions = 0
    for batches in datasets:
        for x, _ in batches:
            tokens += int(tf.reduce_sum(x["attention_mask"]))
            positions += int(tf.size(x["attention_mask"]))
    return 1 - tokens / max(positions, 1)


def _lengths(values, pad):
    """Up to the last value of each row that is no padding; int32 [rows]."""
    places = tf.range(1, tf.shape(values)[1] + 1)
    return tf.reduce_max(tf.where(tf.not_equal(values, pad), places, 0), axis=1)
