"""`tf.vectorized_map` over the examples of a batch, for models that draw random numbers.

TensorFlow's (Agarwal 2019, "Auto-vectorizing TensorFlow graphs") has no rule for the stateless random ops: given the
same seed for every example it draws once, so that all examples of a batch would share one dropout mask. Here the
examples' draws are one draw for all of them, which for an op whose first dimension is the batch's gives the very
numbers that it draws for the batch as a whole.
"""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf
from tensorflow.python.ops.parallel_for.pfor import _create_op, _pfor_converter_registry, wrap

from tff_tx.core import internals
from tff_tx.core.errors import UserError

_DRAWS = (
    "StatelessRandomNormalV2",
    "StatelessRandomUniformFullIntV2",
    "StatelessRandomUniformIntV2",
    "StatelessRandomUniformV2",
    "StatelessTruncatedNormalV2",
)
"""Ops that take (shape, key, counter, algorithm, *limits)."""

_NOT_VECTORIZED = ("No pfor vectorization", "Attempted to stack a variant")
"""Parts of TensorFlow's messages about an op that it has no rule for."""


def vectorized_map(fn: Callable[[Any, Any], Any], batch: Any, seed: tf.Tensor | None = None) -> Any:
    """Applies `fn` to every slice of a batch at the same time.

    Args:
      fn: From (slice, seed), the slice a structure like `batch` without its first dimension, to a structure of tensors.
      batch: A structure of tensors that agree in their first dimension.
      seed: int64 [2], or None. What is drawn from it in `fn` is independent from slice to slice.

    Returns:
      The results, stacked.

    Raises:
      UserError: If the function contains an op that TensorFlow cannot vectorize.
    """
    seeds = ()
    if seed is not None:
        count = tf.shape(tf.nest.flatten(batch)[0])[0]
        seeds = (tf.repeat(tf.ensure_shape(seed, [2])[None], count, axis=0),)
    with _one_draw_for_all():
        try:
            return tf.vectorized_map(
                lambda arguments: fn(arguments[0], arguments[1][0] if seeds else None),
                (batch, seeds),
                fallback_to_while_loop=False,
            )
        except ValueError as error:
            if not any(message in str(error) for message in _NOT_VECTORIZED):
                raise
            raise UserError(
                f"the gradients of single examples cannot be computed together ({_reason(error)}): train "
                "another model, or without clipping examples."
            ) from error


def _reason(error):
    return next(line.strip() for line in str(error).splitlines() if any(message in line for message in _NOT_VECTORIZED))


def _one_draw_for_all():
    """Adds rules for the random ops to those of TensorFlow, which are the whole process's."""
    added = {"StatelessRandomGetKeyCounter": _convert_key, **dict.fromkeys(_DRAWS, _convert_draw)}
    return internals.swapped(*((_pfor_converter_registry, name, convert) for name, convert in added.items()))


def _convert_key(pfor_input):
    """The key and counter of the first slice's seed, for all slices."""
    seeds = pfor_input.stacked_input(0)
    count = pfor_input.pfor.loop_len_vector
    outputs = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seeds[0])
    return [wrap(tf.tile(t[None], tf.concat([count, [1]], 0)), True) for t in outputs]


def _convert_draw(pfor_input):
    """One draw, of the slices' shape with a dimension more, under the first slice's key."""
    shape, count = pfor_input.unstacked_input(0), pfor_input.pfor.loop_len_vector
    # The seed is scrambled by a draw whose key is a constant, and whose counter is the seed.
    key, counter = (value[0] if stacked else value for value, stacked, _ in map(pfor_input.input, (1, 2)))
    rest = [pfor_input.unstacked_input(i) for i in range(3, pfor_input.num_inputs)]
    inputs = [tf.concat([tf.cast(count, shape.dtype), shape], 0), key, counter, *rest]
    op = pfor_input.op
    drawn = _create_op(op.type, inputs, [op.outputs[0].dtype], attrs=op.node_def.attr)
    return [wrap(t, True) for t in drawn.outputs]
