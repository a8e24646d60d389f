"""Convolutions over groups of channels, with gradients on every processor.

TensorFlow has no gradient of a grouped `Conv2D` on processors without oneDNN. Keras has XLA compile these layers
instead, which not every place that clients run at can. Here they are computed by ops that have gradients everywhere.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tff_tx.core import internals


def differentiable(model: Any):
    """Has the grouped convolutions of a Keras model compute one convolution a group, while the model is traced."""
    grouped = [layer for layer in model.submodules if getattr(layer, "groups", 1) > 1 and _convolves(layer)]
    return internals.swapped(*((layer, "convolution_op", _convolution(layer)) for layer in grouped))


def _convolves(layer) -> bool:
    return hasattr(layer, "convolution_op") and "convolution_op" not in vars(layer)


def _convolution(layer):
    original = layer.convolution_op

    def convolution_op(inputs, kernel):
        axis = 1 if layer.data_format == "channels_first" else -1
        if kernel.shape.rank == 4 and kernel.shape[2] == 1 and axis == -1 and len(set(layer.strides)) == 1:
            return _depthwise(layer, inputs, kernel)
        parts = zip(tf.split(inputs, layer.groups, axis), tf.split(kernel, layer.groups, -1))
        return tf.concat([original(part, weights) for part, weights in parts], axis)

    return convolution_op


def _depthwise(layer, inputs, kernel):
    """With one input channel a group, it is a depthwise convolution of the same numbers in the same order."""
    rows, columns, _, filters = kernel.shape
    kernel = tf.reshape(kernel, [rows, columns, layer.groups, filters // layer.groups])
    strides = [1, *layer.strides, 1]
    return tf.nn.depthwise_conv2d(inputs, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate)
