"""Random numbers that depend on data alone.

Keras layers draw from stateful TensorFlow ops, whose numbers depend on whatever else the process has run. Inside
`seeded(seed)` every such op traced into a graph is replaced by its stateless counterpart (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3") under a key made of `seed` and the op's place in the model, so that the
same seed gives the same numbers on any engine and any number of threads.
"""

from __future__ import annotations

import contextlib
import threading

import tensorflow as tf
from tensorflow.python.ops import gen_random_ops

_active = threading.local()
_patching = threading.RLock()


class _Stream:
    """Hands out a fresh two-word seed to each op, in the order in which the model is traced."""

    def __init__(self, seed):
        self._seed = tf.cast(seed, tf.int64)
        self._ops = 0

    def next(self):
        self._ops += 1
        return self._seed + tf.constant([0, self._ops], tf.int64)


def _random_uniform(seed, shape, dtype, **unused):
    return tf.random.stateless_uniform(shape, seed, dtype=dtype)


def _random_standard_normal(seed, shape, dtype, **unused):
    return tf.random.stateless_normal(shape, seed, dtype=dtype)


def _truncated_normal(seed, shape, dtype, **unused):
    return tf.random.stateless_truncated_normal(shape, seed, dtype=dtype)


def _random_uniform_int(seed, shape, minval, maxval, **unused):
    return tf.random.stateless_uniform(shape, seed, minval, maxval, dtype=tf.convert_to_tensor(minval).dtype)


def _random_shuffle(seed, value, **unused):
    return tf.random.experimental.stateless_shuffle(value, seed)


_STATELESS = {
    "random_uniform": (_random_uniform, ("shape", "dtype", "seed", "seed2", "name")),
    "random_standard_normal": (_random_standard_normal, ("shape", "dtype", "seed", "seed2", "name")),
    "truncated_normal": (_truncated_normal, ("shape", "dtype", "seed", "seed2", "name")),
    "random_uniform_int": (_random_uniform_int, ("shape", "minval", "maxval", "seed", "seed2", "name")),
    "random_shuffle": (_random_shuffle, ("value", "seed", "seed2", "name")),
}


@contextlib.contextmanager
def seeded(seed):
    """Makes every random op traced by this thread inside the block a function of `seed`.

    Args:
      seed: An integer tensor of shape [2], or None to leave the ops as they are.
    """
    if seed is None:
        yield
        return
    with _patching:
        outer = getattr(_active, "stream", None)
        originals = {name: getattr(gen_random_ops, name) for name in _STATELESS}
        _active.stream = _Stream(seed)
        for name, original in originals.items():
            setattr(gen_random_ops, name, _redirected(name, original))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(gen_random_ops, name, original)
            _active.stream = outer


def _redirected(name, original):
    stateless, parameters = _STATELESS[name]

    def op(*args, **kwargs):
        stream = getattr(_active, "stream", None)
        if stream is None:  # another thread, outside any `seeded` block
            return original(*args, **kwargs)
        arguments = {**dict(zip(parameters, args)), **kwargs}
        arguments.pop("seed", None)
        return stateless(stream.next(), **arguments)

    return op
