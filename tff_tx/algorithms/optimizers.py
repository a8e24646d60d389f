"""TFF's optimizers by name, and what they lack: clipping of gradients and schedules over rounds."""

from __future__ import annotations

import collections
from collections.abc import Collection
from typing import Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.config.algorithm import OPTIMIZERS, SCHEDULES
from tff_tx.core.errors import UserError

schedule_learning_rate = tff.learning.optimizers.schedule_learning_rate
"""A server optimizer whose rate follows the round, as TFF has it."""


def build_optimizer(
    name: str,
    learning_rate,
    *,
    momentum: float = 0.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.01,
    clip_norm: float | None = None,
) -> tff.learning.optimizers.Optimizer:
    """Builds a TFF optimizer.

    Args:
      name: One of `OPTIMIZERS`.
      learning_rate: A float or a float32 scalar tensor.
      momentum: Of sgd.
      beta_1: Decay of the first moment (adam, adamw, yogi).
      beta_2: Decay of the second moment (adam, adamw, yogi).
      epsilon: Added to the square root of the second moment; tau in Reddi et al. 2021, where 1e-3 is a good value for
        the server. Adagrad and yogi start their second moment at its square.
      weight_decay: Of adamw.
      clip_norm: If not None, gradients are scaled down to at most this global L2 norm.

    Raises:
      UserError: If there is no optimizer of that name.
    """
    build = tff.learning.optimizers
    if name == "sgd":
        optimizer = build.build_sgdm(learning_rate, momentum) if momentum else SparseSgd(learning_rate)
    elif name == "adam":
        optimizer = build.build_adam(learning_rate, beta_1, beta_2, epsilon)
    elif name == "adamw":
        optimizer = build.build_adamw(learning_rate, beta_1, beta_2, epsilon, weight_decay)
    elif name == "adagrad":
        # TFF adds it under the root, where its square plays the part it has outside.
        optimizer = build.build_adagrad(learning_rate, epsilon**2, epsilon**2)
    elif name == "yogi":
        optimizer = build.build_yogi(learning_rate, beta_1, beta_2, epsilon, epsilon**2)
    else:
        raise UserError(f"optimizer {name!r}: must be one of {', '.join(OPTIMIZERS)}.")
    return optimizer if clip_norm is None else ClippedOptimizer(optimizer, clip_norm)


# AutoGraph, in which TFF traces what optimizers do, has nothing to convert here, and takes its time to find out.
_as_written = tf.autograph.experimental.do_not_convert


class SparseSgd(tff.learning.optimizers.Optimizer):
    """w - rate * g, which of an embedding table touches only the rows that a batch used.

    TFF's SGD, which this is otherwise, makes such gradients dense and takes three passes over the table a step.
    """

    def __init__(self, learning_rate):
        self._dense = tff.learning.optimizers.build_sgdm(learning_rate)

    @_as_written
    def initialize(self, specs):
        return self._dense.initialize(specs)

    @_as_written
    def next(self, state, weights, gradients):
        rate = self.get_hparams(state)["learning_rate"]

        def update(w, g):
            if g is None:
                return w
            if isinstance(g, tf.IndexedSlices):
                return tf.tensor_scatter_nd_sub(w, g.indices[:, None], tf.cast(rate, w.dtype) * g.values)
            return w - tf.cast(rate, w.dtype) * g

        # A copy: a schedule puts the next rate into what comes back, and TensorFlow refuses functions that change what
        # they were given.
        return collections.OrderedDict(state), tf.nest.map_structure(update, weights, gradients)

    @_as_written
    def get_hparams(self, state):
        return self._dense.get_hparams(state)

    def set_hparams(self, state, hparams):
        return self._dense.set_hparams(state, hparams)


class ClippedOptimizer(tff.learning.optimizers.Optimizer):
    """Scales gradients down to a global L2 norm for another optimizer (Pascanu et al. 2013, Algorithm 1)."""

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer, clip_norm: float):
        self._optimizer, self._clip_norm = optimizer, clip_norm

    @_as_written
    def initialize(self, specs):
        return self._optimizer.initialize(specs)

    @_as_written
    def next(self, state, weights, gradients):
        # The norm of a sparse gradient would be that of its parts, of which several may be of one row.
        gradients = tff.learning.optimizers.handle_indexed_slices_gradients(gradients)
        clipped, _ = tf.clip_by_global_norm(tf.nest.flatten(gradients), self._clip_norm)
        return self._optimizer.next(state, weights, tf.nest.pack_sequence_as(gradients, clipped))

    @_as_written
    def get_hparams(self, state):
        return self._optimizer.get_hparams(state)

    def set_hparams(self, state, hparams):
        return self._optimizer.set_hparams(state, hparams)


class ScaledSteps(tff.learning.optimizers.Optimizer):
    """Multiplies the steps of another optimizer for some weights: their learning rate is so many times the others'.

    Args:
      optimizer: The other.
      positions: Which weights.
      factor: Float or float32 scalar tensor.
    """

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer, positions: Collection[int], factor):
        self._optimizer, self._positions, self._factor = optimizer, frozenset(positions), factor

    @_as_written
    def initialize(self, specs):
        return self._optimizer.initialize(specs)

    @_as_written
    def next(self, state, weights, gradients):
        state, after = self._optimizer.next(state, weights, gradients)
        pairs = enumerate(zip(tf.nest.flatten(weights), tf.nest.flatten(after)))
        scaled = [w + self._factor * (a - w) if i in self._positions else a for i, (w, a) in pairs]
        return state, tf.nest.pack_sequence_as(weights, scaled)

    @_as_written
    def get_hparams(self, state):
        return self._optimizer.get_hparams(state)

    def set_hparams(self, state, hparams):
        return self._optimizer.set_hparams(state, hparams)


def build_adapter_optimizer(
    build: Callable[..., tff.learning.optimizers.Optimizer],
    positions: Collection[int],
    learning_rate,
    *,
    learning_rate_factor=1.0,
    **more,
) -> tff.learning.optimizers.Optimizer:
    """An optimizer whose rate for adapters is another one.

    Args:
      build: From a learning rate and `more` to the optimizer of all weights.
      positions: Of the adapters among them.
      learning_rate: Of the other weights.
      learning_rate_factor: The adapters' rate, in its units: a float or a float32 scalar tensor.
      **more: Further arguments of `build`.
    """
    optimizer = build(learning_rate, **more)
    is_one = isinstance(learning_rate_factor, float) and learning_rate_factor == 1.0
    return optimizer if is_one else ScaledSteps(optimizer, positions, learning_rate_factor)


def build_schedule(name: str, peak: float, warmup_rounds: int, total_rounds: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Builds a learning rate that follows the round.

    It rises linearly over the warm-up, reaching `peak` in round `warmup_rounds` (counted from 0; without warm-up it
    starts there), and then stays (constant), falls to 0 at `total_rounds` along a line (linear) or half a cosine
    (cosine, Loshchilov & Hutter 2017, equation 5), or falls as the inverse square root of the round (inverse_sqrt,
    Vaswani et al. 2017, equation 3).

    Returns:
      A function from the round, an int32 scalar counted from 0, to a float32 scalar.
    """
    if name not in SCHEDULES:
        raise UserError(f"schedule {name!r}: must be one of {', '.join(SCHEDULES)}.")
    pi = 3.141592653589793

    def learning_rate(round_num):
        done = tf.cast(round_num, tf.float32)
        warm = tf.minimum(1.0, (done + 1.0) / (warmup_rounds + 1.0))
        part = (done - warmup_rounds) / max(1.0, total_rounds - warmup_rounds)
        part = tf.clip_by_value(part, 0.0, 1.0)
        decay = {
            "constant": lambda: 1.0,
            "linear": lambda: 1.0 - part,
            "cosine": lambda: 0.5 * (1.0 + tf.cos(pi * part)),
            "inverse_sqrt": lambda: tf.sqrt((warmup_rounds + 1.0) / tf.maximum(done + 1.0, warmup_rounds + 1.0)),
        }[name]()
        return tf.cast(peak, tf.float32) * warm * decay

    return learning_rate
