"""A patch Transformer for forecasting: PatchTST (Nie et al. 2023, https://arxiv.org/abs/2211.14730).

Each series is forecast by itself from patches of its past (sections 3.1, "channel-independence"); a client that owns a
series is a channel. Two things differ from the paper: normalization in the layers is LayerNorm where theirs is
BatchNorm, whose running means would mix clients up, and it comes before attention, not after.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tff_tx.core.errors import UserError, setting
from tff_tx.models.zoo import blocks

_EPSILON = 1e-5


class PatchTransformerConfig(blocks.Config):
    """Fields of a `TFPatchTransformer`.

    Attributes:
      context_length: Steps that are looked at.
      prediction_length: Steps that are forecast.
      patch_length: Steps a patch.
      patch_stride: Steps from a patch to the next.
      hidden_size: Width.
      num_hidden_layers: Layers.
      num_attention_heads: Heads a layer.
      intermediate_size: Width inside of the dense layers.
      hidden_dropout_prob: Dropout rate of the embeddings and after each sublayer.
      attention_probs_dropout_prob: Dropout rate of attention weights.
      layer_norm_eps: Epsilon of layer normalization.
    """

    model_type = "patch_transformer"

    DEFAULTS = {
        "context_length": 12,
        "prediction_length": 12,
        "patch_length": 4,
        "patch_stride": 2,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-5,
    }


class _Backbone(tf_keras.layers.Layer):
    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self._length, self._stride = config.patch_length, config.patch_stride
        self.embed = tf_keras.layers.Dense(config.hidden_size, name="embed")
        self.dropout = tf_keras.layers.Dropout(config.hidden_dropout_prob)
        self.blocks = [blocks.Block(config, name=f"block_{i}") for i in range(config.num_hidden_layers)]
        self.norm = blocks.layer_norm(config, "norm")
        self._shape = [num_patches(config), config.hidden_size]

    def build(self, input_shape):
        self.positions = self.add_weight(
            "positions", self._shape, initializer=tf_keras.initializers.RandomNormal(0.0, 0.02)
        )
        super().build(input_shape)

    def call(self, values, training=False):
        """Float32 [batch, context] to [batch, patches, hidden]."""
        x = self.embed(patches(values, self._length, self._stride)) + self.positions
        x = self.dropout(x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x)


class TFPatchTransformer(blocks.Model):
    """Forecasts the next steps of a series from the last ones."""

    config_class = PatchTransformerConfig

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        if not 1 <= config.patch_stride <= config.patch_length <= config.context_length:
            raise UserError(
                f"{setting('model.config')}: patch_stride={config.patch_stride} and "
                f"patch_length={config.patch_length} do not fit "
                f"a context of {config.context_length} steps: 1 <= patch_stride <= patch_length <= context."
            )
        self.backbone = _Backbone(config, name="backbone")
        self.head = tf_keras.layers.Dense(config.prediction_length, name="head")

    @property
    def dummy_inputs(self):
        """One series of zeros."""
        return {"past_values": tf.zeros([1, self.config.context_length])}

    def call(self, past_values, training=False):
        """Forecasts.

        Mean and standard deviation of each window are taken off before and put back after (RevIN, Kim et al. 2022,
        without its learned scale), so that series of any unit go together and no statistics need to be shared.

        Args:
          past_values: float32 [batch, context_length], in the data's own unit.
          training: Whether to drop out.

        Returns:
          float32 [batch, prediction_length], in the same unit.
        """
        mean = tf.reduce_mean(past_values, -1, keepdims=True)
        deviation = tf.sqrt(tf.math.reduce_variance(past_values, -1, keepdims=True) + _EPSILON)
        hidden = self.backbone((past_values - mean) / deviation, training=training)
        flat = tf.reshape(hidden, [tf.shape(hidden)[0], hidden.shape[1] * hidden.shape[2]])
        return self.head(flat) * deviation + mean


def num_patches(config: PatchTransformerConfig) -> int:
    """How many patches a context has: floor((L - P) / S) + 2, as in the paper, section 3.1."""
    return (config.context_length - config.patch_length) // config.patch_stride + 2


def patches(values: tf.Tensor, length: int, stride: int) -> tf.Tensor:
    """Overlapping patches of series, their last value repeated `stride` times: [batch, steps] to [batch, N, length]."""
    padded = tf.concat([values, tf.repeat(values[:, -1:], stride, axis=1)], axis=1)
    return tf.signal.frame(padded, length, stride)


TFAutoModelForForecasting = blocks.auto_class("TFAutoModelForForecasting", TFPatchTransformer)
