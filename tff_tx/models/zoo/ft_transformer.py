"""A Transformer for tables: FT-Transformer (Gorishniy et al. 2021, https://arxiv.org/abs/2106.11959)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from tff_tx.models.zoo import blocks


class FtTransformerConfig(blocks.Config):
    """Fields of a `TFFtTransformer`; `num_labels` is the number of classes.

    Attributes:
      numeric_features: Names of the numbers, in their order.
      means: Subtracted from each number; none if empty.
      deviations: Divides each number after that; none if empty. Zero counts as one.
      categorical_features: Names of the categories, in their order.
      categories: The known values of each; the number of a value is 1 more than its place, 0 is any other value.
      hidden_size: Width of a feature's token.
      num_hidden_layers: Layers.
      num_attention_heads: Heads a layer.
      intermediate_size: Width inside of the dense layers.
      hidden_dropout_prob: Dropout rate after each sublayer.
      attention_probs_dropout_prob: Dropout rate of attention weights.
      layer_norm_eps: Epsilon of layer normalization.
    """

    model_type = "ft_transformer"

    DEFAULTS = {
        "numeric_features": ("x",),
        "means": (),
        "deviations": (),
        "categorical_features": (),
        "categories": (),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 43,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.2,
        "layer_norm_eps": 1e-5,
    }

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.numeric_features, self.categorical_features = list(self.numeric_features), list(self.categorical_features)
        self.means, self.deviations = list(self.means), list(self.deviations)
        self.categories = [list(values) for values in self.categories]


class FeatureTokenizer(tf_keras.layers.Layer):
    """Tokens of the class and of features (section 3.1): b_j + x_j W_j of a number, b_j + W_j[x_j] of a category."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self._config = config
        sizes = [len(values) + 1 for values in config.categories]
        self._offsets = np.cumsum([0, *sizes])[:-1].astype(np.int32)
        self._rows = sum(sizes)

    def build(self, input_shape):
        numbers = len(self._config.numeric_features)
        self.class_token = self._tokens("class_token")
        self.bias = self._tokens("bias", numbers + len(self._config.categories))
        if numbers:
            self.scales = self._tokens("scales", numbers)
        if self._rows:
            self.table = self._tokens("table", self._rows)
        super().build(input_shape)

    def _tokens(self, name, *rows):
        width = self._config.hidden_size
        initializer = tf_keras.initializers.RandomUniform(-(width**-0.5), width**-0.5)
        return self.add_weight(name, [*rows, width], initializer=initializer)

    def call(self, inputs):
        """(float32 [batch, numbers] or None, int32 [batch, categories] or None) to float32 [batch, 1 + all, hidden]."""
        numbers, categories = inputs
        tokens = []
        if numbers is not None:
            tokens.append(numbers[..., tf.newaxis] * self.scales)
        if categories is not None:
            tokens.append(tf.gather(self.table, categories + self._offsets))
        features = tf.concat(tokens, axis=1) + self.bias
        first = tf.repeat(self.class_token[tf.newaxis, tf.newaxis], tf.shape(features)[0], axis=0)
        return tf.concat([first, features], axis=1)


class Backbone(tf_keras.layers.Layer):
    """From rows of a table to tokens: standardizes numbers, embeds features, and has them attend to one another."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self._config = config
        self.tokenize = FeatureTokenizer(config, name="tokenize")
        # The first layer does not normalize what it attends to: "necessary" for optimization, as the paper finds.
        self.blocks = [
            blocks.Block(config, "reglu", normalizes=i > 0, name=f"block_{i}") for i in range(config.num_hidden_layers)
        ]

    def call(self, inputs, training=False):
        """Inputs as of `TFFtTransformer.call` to float32 [batch, 1 + features, hidden], the class token first."""
        numbers, categories = inputs.get("numbers"), inputs.get("categories")
        if numbers is not None and self._config.means:
            numbers = numbers - tf.constant(self._config.means, tf.float32)
        if numbers is not None and self._config.deviations:
            numbers = numbers / tf.constant([d or 1.0 for d in self._config.deviations], tf.float32)
        if numbers is not None:
            # Standardized, the mean is 0.
            numbers = tf.where(tf.math.is_nan(numbers), 0.0, numbers)
        x = self.tokenize((numbers, categories))
        for block in self.blocks:
            x = block(x, training=training)
        return x


class TFFtTransformer(blocks.Model):
    """Classifies rows of a table."""

    config_class = FtTransformerConfig

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.backbone = Backbone(config, name="backbone")
        self.norm = blocks.layer_norm(config, "norm")
        self.classifier = tf_keras.layers.Dense(config.num_labels, name="classifier")

    @property
    def dummy_inputs(self):
        """One row of zeros."""
        inputs = {}
        if self.config.numeric_features:
            inputs["numbers"] = tf.zeros([1, len(self.config.numeric_features)])
        if self.config.categories:
            inputs["categories"] = tf.zeros([1, len(self.config.categories)], tf.int32)
        return inputs

    def build_in_name_scope(self):
        """Makes the weights by a call on `dummy_inputs`."""
        self(self.dummy_inputs)

    def call(self, inputs, training=False):
        """Logits of the classes: Linear(ReLU(LayerNorm(.))) of the class token (section 3.1).

        Args:
          inputs: A mapping with what there is of `numbers`, float32 [batch, numeric features], as they stand in the
            data (they are standardized here, and NaN becomes the mean), and `categories`, int32 [batch, categorical
            features], numbers of their values.
          training: Whether to drop out.

        Returns:
          float32 [batch, num_labels].
        """
        hidden = self.backbone(inputs, training=training)[:, 0]
        return self.classifier(tf.nn.relu(self.norm(hidden)))


TFAutoModelForTables = blocks.auto_class("TFAutoModelForTables", TFFtTransformer)
