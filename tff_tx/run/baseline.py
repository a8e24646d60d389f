"""Predictions that know the frequencies of the labels and nothing else: what a model must do better than."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Constant(NamedTuple):
    """The best that the same prediction for every label can do.

    Attributes:
      loss: Its cross-entropy in nats: the entropy of the labels.
      accuracy: The share of the most frequent label.
    """

    loss: float
    accuracy: float


def constant(counts: np.ndarray) -> Constant:
    """The best constant prediction of labels that occur so often, float [classes]."""
    shares = counts[counts > 0] / max(1.0, counts.sum())
    return Constant(float(-np.sum(shares * np.log(shares))), float(shares.max(initial=0.0)))


def occurrences(labels: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """(classes that occur, how often) of batches of labels, integers of any shape; of others, and below 0, none."""
    found = [np.ravel(batch) for batch in labels if hasattr(batch, "numpy") or isinstance(batch, np.ndarray)]
    whole = np.concatenate([batch for batch in found if batch.dtype.kind in "iu"] or [np.zeros(0, np.int32)])
    return np.unique(whole[whole >= 0], return_counts=True)


def total(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Counts of `occurrences` together, float [classes]."""
    counts = np.zeros(1 + max((classes.max() for classes, _ in parts if len(classes)), default=-1))
    for classes, times in parts:
        counts[classes] += times
    return counts
