"""What the small Transformers of this package are made of, and how they become Hugging Face models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
import transformers

from tff_tx.core.errors import UserError, setting
from tff_tx.models.tracing import hugging_face

_FAR = -1e9
"""Stands for minus infinity in attention scores; a row of nothing else gives equal weights instead of none."""


class Config(transformers.PretrainedConfig):
    """A configuration whose fields are those of `DEFAULTS`, besides Hugging Face's own."""

    DEFAULTS: Mapping[str, Any] = {}

    def __init__(self, **kwargs):
        super().__init__(**{**self.DEFAULTS, **kwargs})


class Model(transformers.TFPreTrainedModel):
    """A Keras model with a configuration, `save_pretrained` and `from_pretrained`.

    Subclasses set `config_class` and `dummy_inputs`, and keep what is before the head in `backbone`.
    """

    base_model_prefix = "backbone"

    def build_in_name_scope(self):
        """Makes the weights by a call on `dummy_inputs`."""
        self(**self.dummy_inputs)

    @property
    def input_signature(self):
        """`tf.TensorSpec` of the inputs, whose sizes are not known."""
        return {name: tf.TensorSpec([None] * x.shape.rank, x.dtype) for name, x in self.dummy_inputs.items()}


def auto_class(name: str, model_class: Any) -> Any:
    """Registers a model with Hugging Face and makes the class that finds it, like `TFAutoModelForCausalLM`."""
    transformers.AutoConfig.register(model_class.config_class.model_type, model_class.config_class, exist_ok=True)
    auto = hugging_face.auto_class(name)
    auto.register(model_class.config_class, model_class)
    return auto


class Block(tf_keras.layers.Layer):
    """A Transformer layer that normalizes what goes into attention and into the dense layers (pre-norm).

    h = x + Attention(LayerNorm(x)); y = h + W_2 f(W_1 LayerNorm(h)), with dropout on attention weights and before both
    sums (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; the place of the norms: Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745).

    Args:
      config: Has `hidden_size`, `num_attention_heads`, `intermediate_size`, `hidden_dropout_prob`,
        `attention_probs_dropout_prob` and `layer_norm_eps`.
      activation: f: "relu", "gelu", or "reglu", the product of one half with the ReLU of the other (Shazeer 2020,
        https://arxiv.org/abs/2002.05202).
      normalizes: Whether what goes into attention is normalized.

    Raises:
      UserError: If the heads do not divide the hidden size.
    """

    def __init__(self, config, activation: str = "gelu", normalizes: bool = True, **kwargs):
        super().__init__(**kwargs)
        if config.hidden_size % config.num_attention_heads:
            raise UserError(
                f"{setting('model.config')}: hidden_size={config.hidden_size} is no multiple of "
                f"num_attention_heads={config.num_attention_heads}: choose a multiple."
            )
        self._heads, self._activation = config.num_attention_heads, activation
        width = config.intermediate_size * (2 if activation == "reglu" else 1)
        self.attention_norm = layer_norm(config, "attention_norm") if normalizes else None
        self.query, self.key, self.value, self.merge = (
            tf_keras.layers.Dense(config.hidden_size, name=name) for name in ("query", "key", "value", "merge")
        )
        self.dense_norm = layer_norm(config, "dense_norm")
        self.widen = tf_keras.layers.Dense(width, name="widen")
        self.narrow = tf_keras.layers.Dense(config.hidden_size, name="narrow")
        self.attention_dropout = tf_keras.layers.Dropout(config.attention_probs_dropout_prob)
        self.dropout = tf_keras.layers.Dropout(config.hidden_dropout_prob)

    def call(self, x, mask=None, training=False):
        """Float32 [batch, length, hidden] to the same; `mask` bool [batch or 1, length, length], who sees whom."""
        attended = self._attend(x if self.attention_norm is None else self.attention_norm(x), mask, training)
        x = x + self.dropout(attended, training=training)
        dense = self.narrow(self._activate(self.widen(self.dense_norm(x))))
        return x + self.dropout(dense, training=training)

    def _attend(self, x, mask, training):
        queries, keys, values = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = tf.einsum("bqhd,bkhd->bhqk", queries, keys) / math.sqrt(queries.shape[-1])
        if mask is not None:
            scores = tf.where(mask[:, tf.newaxis], scores, _FAR)
        weights = self.attention_dropout(tf.nn.softmax(scores), training=training)
        merged = tf.einsum("bhqk,bkhd->bqhd", weights, values)
        return self.merge(tf.reshape(merged, tf.shape(x)))

    def _split(self, x):
        shape = tf.shape(x)
        return tf.reshape(x, [shape[0], shape[1], self._heads, x.shape[-1] // self._heads])

    def _activate(self, x):
        if self._activation == "reglu":
            linear, gate = tf.split(x, 2, axis=-1)
            return linear * tf.nn.relu(gate)
        return getattr(tf.nn, self._activation)(x)


def layer_norm(config, name: str) -> tf_keras.layers.Layer:
    """Layer normalization as the configuration has it."""
    return tf_keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name=name)
