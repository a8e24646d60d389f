"""CELU-VFL: a cache of exchanged batches, from which parties make local updates."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class Workset:
    """The last batches that were exchanged, each as often used as the others.

    Fu et al. 2022, "Towards communication-efficient vertical federated learning training via cache-enabled local
    updates" (https://arxiv.org/abs/2207.14628). For each message, party A with features and party B with labels:

      exchange activations Z and gradients dZ of a batch, make the exact update, and cache (batch, Z, dZ);
      of more than W batches the oldest is dropped;
      for each local update: (batch, Z, dZ) <- the least recently used of the W batches
        A: Z' <- activations by today's weights;  w_i <- weight(Z'_i, Z_i);    descend along sum_i w_i <Z'_i, dZ_i> / n
        B: dZ' <- gradients by today's weights;   w_i <- weight(dZ'_i, dZ_i);  descend along sum_i w_i loss_i(Z) / n

    With W = 1 and w = 1 it is FedBCD: all local updates are on the batch that was exchanged last.

    Args:
      size: W, how many batches are held at most.
    """

    def __init__(self, size: int):
        self._size, self._added = size, 0
        self._batches: dict[int, Any] = {}  # the oldest first
        self._turns: collections.deque[int] = collections.deque()  # the least recently used first

    def __len__(self) -> int:
        return len(self._batches)

    def clear(self) -> None:
        """Drops all batches, as each epoch does: a checkpoint, which is made between epochs, needs none of them."""
        self._batches.clear()
        self._turns.clear()

    def add(self, batch: Any) -> None:
        """Caches a batch that was just used."""
        if len(self) == self._size:
            oldest = next(iter(self._batches))
            del self._batches[oldest]
            self._turns.remove(oldest)
        self._batches[self._added] = batch
        self._turns.append(self._added)
        self._added += 1

    def take(self) -> Any:
        """The least recently used batch."""
        self._turns.rotate(-1)
        return self._batches[self._turns[-1]]


def row_weights(fresh: Sequence[tf.Tensor], stale: Sequence[tf.Tensor], threshold: float) -> tf.Tensor:
    """Weights of rows by the cosine of what is fresh and stale: that cosine, or 0 below the threshold.

    Args:
      fresh: float32 [batch, ...], of which a row's values are those of all together.
      stale: Of the same shapes.
      threshold: At least 0.

    Returns:
      float32 [batch]; 1 where both are zero, as for rows that go without the other parties.
    """
    one, other = (tf.concat([tf.reshape(a, [tf.shape(a)[0], -1]) for a in part], axis=1) for part in (fresh, stale))
    lengths = tf.norm(one, axis=1) * tf.norm(other, axis=1)
    cosine = tf.math.divide_no_nan(tf.reduce_sum(one * other, axis=1), lengths)
    cosine = tf.where(tf.reduce_all((one == 0.0) & (other == 0.0), axis=1), 1.0, cosine)
    return tf.stop_gradient(tf.where(cosine >= threshold, cosine, 0.0))


def scale_rows(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Float32 [batch, ...] times [batch]."""
    return values * tf.reshape(weights, [-1, *[1] * (values.shape.rank - 1)])
