"""Normalization over time that leaves padding out, of wav2vec2 and HuBERT with `feat_extract_norm="group"`.

Such a model normalizes each channel of its first convolution over all frames of the batch's longest recording: what it
makes of a recording depends on how long the others are. In PyTorch it does too, and it was trained on batches of one
length. Over the recording's own frames it computes what it does of the recording by itself.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tff_tx.core import internals

_NORMS = ("TFWav2Vec2GroupNorm", "TFHubertGroupNorm")


def left_out(model: Any, inputs: Any):
    """Has the group normalizations of a model, while it is called on padded recordings, leave padding out.

    Args:
      model: Any Keras model.
      inputs: What it is called on; recordings come with an `attention_mask` [batch, samples].
    """
    if not isinstance(inputs, dict) or "attention_mask" not in inputs or not hasattr(model, "config"):
        return internals.swapped()
    norms = [layer for layer in model.submodules if type(layer).__name__ in _NORMS]
    if not norms:
        return internals.swapped()
    samples = tf.reduce_sum(inputs["attention_mask"], -1)
    frames = (samples - model.config.conv_kernel[0]) // model.config.conv_stride[0] + 1
    return internals.swapped(*((layer, "_apply_normalization", _normalization(layer, frames)) for layer in norms))


def _normalization(layer, frames):
    def normalize(inputs, shape):
        inside = tf.sequence_mask(frames, tf.shape(inputs)[1], inputs.dtype)[..., tf.newaxis]
        number = tf.maximum(tf.reduce_sum(inside, 1, keepdims=True), 1.0)
        mean = tf.reduce_sum(inputs * inside, 1, keepdims=True) / number
        variance = tf.reduce_sum(tf.square(inputs - mean) * inside, 1, keepdims=True) / number
        scale, offset = layer._get_reshaped_weights(shape)
        return tf.nn.batch_normalization(inputs, mean, variance, offset, scale, layer.epsilon)

    return normalize
