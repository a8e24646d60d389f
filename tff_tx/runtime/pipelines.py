"""How a client's `tf.data` pipeline runs: small, made anew for every client of every round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

_PREFETCHED_BATCHES = 2


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without TensorFlow's rewriting and tuning.

    They cost more than a small client's whole epoch, for every client anew; and the thread that tunes sleeps, while
    the end of the client's data waits until it wakes up.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def numbered(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The elements with their numbers, int64 from 0, before them.

    As `Dataset.enumerate`, which has the numbers rewritten by TensorFlow's graph optimizer for every dataset anew.
    """
    return tf.data.Dataset.zip((tf.data.Dataset.range(np.iinfo(np.int64).max), dataset))


def read_ahead(batches: tf.data.Dataset) -> Iterator[Any]:
    """Iterates over batches, of which the next are read while one is used; reading starts with the first `next`."""
    return iter(untuned(batches.prefetch(_PREFETCHED_BATCHES)))
