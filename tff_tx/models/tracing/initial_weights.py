"""The generators that initial weights of Keras models are drawn from, seeded."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tf_keras.src import backend as keras_backend

from tff_tx.core import internals


@contextlib.contextmanager
def seeded(seed: int):
    """Seeds the process-wide generators, from which Keras initializers draw, and restores them."""
    # Where set_random_seed of Keras was ever called, initializers draw from a generator of its own.
    keras_generator = (keras_backend._SEED_GENERATOR, "generator", random.Random(seed))
    with internals.swapped(keras_generator):
        before = random.getstate(), np.random.get_state(), context.global_seed()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        tf.random.set_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            tf.random.set_seed(before[2])
