"""Random numbers that depend on data alone.

Keras layers draw from stateful TensorFlow ops, whose numbers depend on whatever else the process
has run. Inside `seeded(seed)` every such op traced into a graph is replaced by its stateless
counterpart (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") under a key made of
`seed` and the op's place in the model, so that the same seed gives the same numbers on any engine
and any number of threads.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gen_random_ops, random_ops_util

from tff_tx.core import internals

SEED = "seed"
"""The input that carries the seed of a batch's dropout: int64, shape [2], not batched."""

_ALGORITHM = "philox"  # the same numbers on every device; "auto_select" would choose by device
_STATEFUL = frozenset(
    (
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "RngReadAndSkip",
        "RngSkip",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "StatefulRandomBinomial",
        "TruncatedNormal",
    )
)
_active = threading.local()


def split_seed(x: Any) -> tuple[Any, Any]:
    """Parts a batch of inputs into what the model sees and the seed (None where there is none)."""
    if not isinstance(x, collections.abc.Mapping) or SEED not in x:
        return x, None
    inputs = {name: value for name, value in x.items() if name != SEED}
    return inputs, x[SEED]


class _Stream:
    """Hands out a fresh two-word seed to each op, in the order in which the model is traced."""

    def __init__(self, key, ops):
        self.key, self.ops = key, ops

    def next(self):
        self.ops += 1
        return tf.stack([self.key, tf.constant(self.ops, tf.int64)])


def _random_uniform(seed, shape, dtype, **unused):
    return tf.random.stateless_uniform(shape, seed, dtype=dtype, alg=_ALGORITHM)


def _random_standard_normal(seed, shape, dtype, **unused):
    return tf.random.stateless_normal(shape, seed, dtype=dtype, alg=_ALGORITHM)


def _truncated_normal(seed, shape, dtype, **unused):
    return tf.random.stateless_truncated_normal(shape, seed, dtype=dtype, alg=_ALGORITHM)


def _random_uniform_int(seed, shape, minval, maxval, **unused):
    dtype = tf.convert_to_tensor(minval).dtype
    return tf.random.stateless_uniform(shape, seed, minval, maxval, dtype, alg=_ALGORITHM)


def _random_shuffle(seed, value, **unused):
    return tf.random.experimental.stateless_shuffle(value, seed, alg=_ALGORITHM)


def _multinomial(seed, logits, num_samples, output_dtype=tf.int64, **unused):
    return tf.random.stateless_categorical(logits, num_samples, seed, dtype=output_dtype)


def _prepare_key_counter(seed, generator, shape):
    return random_ops_util.get_key_counter_alg(seed, generator.algorithm)[:2]


_SEEDS = ("seed", "seed2", "name")
_STATELESS = (
    (gen_random_ops, "random_uniform", _random_uniform, ("shape", "dtype", *_SEEDS)),
    (
        gen_random_ops,
        "random_standard_normal",
        _random_standard_normal,
        ("shape", "dtype", *_SEEDS),
    ),
    (gen_random_ops, "truncated_normal", _truncated_normal, ("shape", "dtype", *_SEEDS)),
    (
        gen_random_ops,
        "random_uniform_int",
        _random_uniform_int,
        ("shape", "minval", "maxval", *_SEEDS),
    ),
    (gen_random_ops, "random_shuffle", _random_shuffle, ("value", *_SEEDS)),
    (
        gen_random_ops,
        "multinomial",
        _multinomial,
        ("logits", "num_samples", "seed", "seed2", "output_dtype"),
    ),
    # What every method of a generator asks for: Keras' preprocessing layers (RandomFlip) own one.
    (tf.random.Generator, "_prepare_key_counter", _prepare_key_counter, ("generator", "shape")),
)


@contextlib.contextmanager
def seeded(seed):
    """Makes every random op traced by this thread inside the block a function of `seed`.

    Args:
      seed: An integer tensor of shape [2], or None to leave the ops as they are.
    """
    if seed is None:
        yield
        return
    tf.ensure_shape(seed, [2])  # three words would do as well, and the third be ignored
    # Hashed, because seeds as they come with the data are near one another: were the op's place
    # added to the seed itself, the second op of one batch would draw as the first of the next.
    key = tf.random.stateless_uniform([], tf.cast(seed, tf.int64), None, None, tf.int64, alg=_ALGORITHM)
    with resumed(key, 0):
        yield


def position() -> tuple[tf.Tensor, int] | None:
    """Where the draws inside `seeded` have got to in this thread: their key and how many there were; None outside."""
    stream = getattr(_active, "stream", None)
    return None if stream is None else (stream.key, stream.ops)


@contextlib.contextmanager
def resumed(key, ops: int):
    """As `seeded`, from a `position` on: the same ops draw the same numbers once more.

    Args:
      key: Scalar int64 tensor.
      ops: How many ops have drawn before.
    """
    swaps = (
        (owner, name, _redirected(getattr(owner, name), stateless, parameters))
        for owner, name, stateless, parameters in _STATELESS
    )
    with internals.lock, internals.swapped(*swaps):
        outer = getattr(_active, "stream", None)
        _active.stream = _Stream(key, ops)
        try:
            yield
        finally:
            _active.stream = outer


def _redirected(original, stateless, parameters):
    def op(*args, **kwargs):
        stream = getattr(_active, "stream", None)
        if stream is None:  # another thread, outside any `seeded` block
            return original(*args, **kwargs)
        arguments = {**dict(zip(parameters, args)), **kwargs}
        arguments.pop("seed", None)
        return stateless(stream.next(), **arguments)

    return op


def stateful_ops(graph: tf.Graph) -> list[str]:
    """The types of the random ops in `graph` whose numbers depend on what ran before."""
    definition = graph.as_graph_def()
    nodes = [definition.node, *(f.node_def for f in definition.library.function)]
    return sorted({node.op for part in nodes for node in part} & _STATEFUL)
