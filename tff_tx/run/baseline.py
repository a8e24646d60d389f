"""Predictions that know the frequencies of the labels and nothing else: what a model must do better than."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_tx import models, runtime


def constant_loss(batches_fn: Callable[[tf.Tensor], tf.data.Dataset], client_ids: Sequence[str]) -> float:
    """The least cross-entropy that the same prediction for every label has, in nats: the entropy of the labels.

    Args:
      batches_fn: From a client id (string scalar tensor) to its batches (x, y), traceable; y are classes, integers of
        any shape.
      client_ids: Clients whose labels are counted.
    """
    reader, counts = runtime.ClientReader(batches_fn), np.zeros(0)
    for client_id in client_ids:
        for _, y in reader(client_id):
            labels = np.ravel(y)
            found = np.bincount(labels[labels != models.IGNORED], minlength=len(counts)).astype(float)
            found[: len(counts)] += counts
            counts = found
    shares = counts[counts > 0] / max(1.0, counts.sum())
    return float(-np.sum(shares * np.log(shares)))
