"""Predictions that know the frequencies of the labels and nothing else: what a model must do better than."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_tx import models, runtime


class Constant(NamedTuple):
    """The best that the same prediction for every label can do.

    Attributes:
      loss: Its cross-entropy in nats: the entropy of the labels.
      accuracy: The share of the most frequent label.
    """

    loss: float
    accuracy: float


def constant(batches_fn: Callable[[tf.Tensor], tf.data.Dataset], client_ids: Sequence[str]) -> Constant:
    """The best constant prediction of the labels of clients.

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
    return Constant(float(-np.sum(shares * np.log(shares))), float(shares.max(initial=0.0)))
