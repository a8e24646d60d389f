"""`tf.cond` and `tf.switch_case` whose branches give tensors of different shapes, with gradients."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.ops import cond_v2

from tff_tx.core import internals


def differentiable():
    """Makes branches of different shapes differentiable where they are traced inside the block.

    The gradient of a branch's result has the static shape that the ops after the branches give it. Where that does not
    fit the shape of a branch that is not taken (say, one that gives a placeholder of shape (1,)), TensorFlow refuses to
    build the gradient, while the same model trains when it runs eagerly.
    """
    return internals.swapped((cond_v2, "_check_same_outputs", _check_same_outputs))


_original = cond_v2._check_same_outputs


def _check_same_outputs(op_type, graphs):
    """TensorFlow's check of the branches' results, which it calls before it makes the op of them."""
    _original(op_type, graphs)
    for i, outputs in enumerate(zip(*(graph.outputs for graph in graphs))):
        if outputs[0].dtype.is_floating and len({str(t.shape) for t in outputs}) > 1:
            for graph in graphs:
                with graph.as_default():
                    graph.outputs[i] = _of_unknown_shape(graph.outputs[i])


def _of_unknown_shape(tensor):
    """The tensor; neither it nor its gradient, whose shape is computed from it, has a static shape."""
    tensor = tf.compat.v1.placeholder_with_default(tensor, shape=None)
    return tf.reshape(tensor, tf.shape(tensor))
