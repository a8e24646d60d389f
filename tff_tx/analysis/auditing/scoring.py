"""Scores of single examples by a model: the features of attacks on its training data."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import runtime
from tff_tx.models import IGNORED

FEATURES = ("loss", "entropy", "margin", "correct")
"""Means over an example's labelled items: cross-entropy and entropy in nats, the true class's logit over the best of
the others, and whether it is the largest."""


class ExampleScorer:
    """Scores single examples by a model.

    Args:
      model: A `tff.learning.models.FunctionalModel` whose predictions are logits, [batch, classes] or [batch, length,
        classes].
      batch_spec: Structure of `tf.TensorSpec` of a batch (x, y).
    """

    def __init__(self, model: Any, batch_spec: Any):
        def step(weights, batch):
            x, y = batch
            return _features(model.predict_on_batch(weights, x, training=False), y)

        specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), model.initial_weights)
        self._step = runtime.step_function(step, specs, batch_spec, internal=True)

    def __call__(self, weights: Any, batches: tf.data.Dataset) -> np.ndarray:
        """The figures of each example.

        Args:
          weights: `tff.learning.models.ModelWeights`.
          batches: Batches (x, y).

        Returns:
          float32 [examples, len(FEATURES)], in the order of the batches.
        """
        parts = tuple(tuple(map(tf.convert_to_tensor, part)) for part in (weights.trainable, weights.non_trainable))
        scores = [self._step(parts, batch).numpy() for batch in batches]
        return np.concatenate(scores) if scores else np.zeros([0, len(FEATURES)], np.float32)

    def of_clients(
        self,
        weights: Any,
        batches_fn: Callable[[tf.Tensor], tf.data.Dataset],
        client_ids: list[str],
        max_examples: int,
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The figures of clients' examples, client by client until there are enough.

        Args:
          weights: `tff.learning.models.ModelWeights`.
          batches_fn: From a client id to its batches.
          client_ids: The clients.
          max_examples: Maximum number of examples.

        Returns:
          (all figures [examples, features], the means of each client [features]).
        """
        by_client, total = [], 0
        for client_id in client_ids:
            found = self(weights, batches_fn(tf.constant(client_id)))
            by_client.append(found)
            total += len(found)
            if total >= max_examples:
                break
        by_client = [found for found in by_client if len(found)]
        together = np.concatenate(by_client) if by_client else np.zeros([0, len(FEATURES)])
        return together[:max_examples], [found.mean(0) for found in by_client]


def _features(logits, labels):
    """[batch, features] of logits [batch, classes] or [batch, length, classes]."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape.rank == 2:
        logits, labels = logits[:, None], labels[:, None]
    counted = tf.not_equal(labels, IGNORED)
    labels = tf.where(counted, labels, 0)
    log_probabilities = tf.nn.log_softmax(logits)
    is_true = tf.one_hot(labels, tf.shape(logits)[-1], on_value=True, off_value=False)
    true = tf.reduce_sum(tf.where(is_true, log_probabilities, 0.0), -1)
    others = tf.reduce_max(tf.where(is_true, -np.inf, log_probabilities), -1)
    entropy = -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, -1)
    margin = true - others
    figures = tf.stack([-true, entropy, margin, tf.cast(margin > 0, tf.float32)], -1)
    counted = tf.cast(counted, tf.float32)[..., None]
    return tf.math.divide_no_nan(tf.reduce_sum(figures * counted, 1), tf.reduce_sum(counted, 1))
