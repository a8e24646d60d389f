"""The models of both sides of the cut: bottoms from a party's columns to tokens, the top over all parties' tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tff_tx import models
from tff_tx.config.vertical import PartyConfig, VerticalConfig
from tff_tx.models.tracing import initial_weights
from tff_tx.models.zoo import blocks
from tff_tx.models.zoo.ft_transformer import Backbone, FtTransformerConfig
from tff_tx.vertical.comparison import comparisons
from tff_tx.vertical.saved import load_encoder


class Bottom(tf_keras.Model):
    """A party's encoder and a projection of its tokens to the width of the cut.

    Args:
      body: From inputs to tokens [batch, tokens, hidden], or a Hugging Face model with a `last_hidden_state`; None: the
        input `features` are tokens already.
      cut_size: Width of the cut.
      pools: Whether the tokens of a row become their mean, without padding.
    """

    def __init__(self, body: Any, cut_size: int, pools: bool, **kwargs):
        super().__init__(**kwargs)
        self.body, self._pools = body, pools
        self.project = tf_keras.layers.Dense(cut_size, name="project")

    def call(self, inputs, training=False):
        """A mapping of arrays [batch, ...] to float32 [batch, tokens or 1, cut_size]."""
        tokens = inputs["features"] if self.body is None else self.body(inputs, training=training)
        tokens = getattr(tokens, "last_hidden_state", tokens)
        if self._pools:
            tokens = mean_token(tokens, inputs.get("attention_mask"))
        return self.project(tokens)


def mean_token(tokens: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """The mean of tokens [batch, tokens, hidden], over those that a mask [batch, tokens] has: [batch, 1, hidden]."""
    if mask is None:
        return tf.reduce_mean(tokens, axis=1, keepdims=True)
    weights = tf.cast(mask, tf.float32)[..., tf.newaxis]
    return tf.math.divide_no_nan(
        tf.reduce_sum(tokens * weights, axis=1, keepdims=True), tf.reduce_sum(weights, axis=1, keepdims=True)
    )


class Patches(tf_keras.layers.Layer):
    """Tokens of an image of any shape: patches of 2 x 2 pixels, linearly embedded, that attend to one another (ViT).

    Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, section 3.1, without its class token.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self._config = config
        self.embed = tf_keras.layers.Conv2D(config.hidden_size, 2, strides=2, padding="same", name="embed")
        self.blocks = [blocks.Block(config, name=f"block_{i}") for i in range(config.num_hidden_layers)]

    def build(self, input_shape):
        _, _, height, width = input_shape["pixel_values"]
        tokens = -(-height // 2) * -(-width // 2)
        self.places = self.add_weight(
            "places", [tokens, self._config.hidden_size], initializer=tf_keras.initializers.RandomNormal(stddev=0.02)
        )
        super().build(input_shape)

    def call(self, inputs, training=False):
        """`pixel_values` float32 [batch, channels, height, width] to float32 [batch, tokens, hidden]."""
        patches = self.embed(tf.transpose(inputs["pixel_values"], [0, 2, 3, 1]))
        x = tf.reshape(patches, [tf.shape(patches)[0], *self.places.shape]) + self.places
        for block in self.blocks:
            x = block(x, training=training)
        return x


class Top(tf_keras.Model):
    """The label party's model of what crosses the cut.

    "transformer": each party's tokens get an embedding of their position and party and, behind a class token, attend to
    one another; a party that is missing for a row is masked. "concatenation": a hidden layer over all tokens, zeros
    where a party is missing. "sum": a hidden layer over the sum of a token of each party. "comparison": a hidden layer
    over products, absolute differences and cosines of every two parties' tokens.

    Args:
      settings: Kind and size.
      tokens: Number of tokens by party, in the parties' order.
      outputs: Size of the output: classes, or 1 for a number.
    """

    def __init__(self, settings: VerticalConfig, tokens: Mapping[str, int], outputs: int, **kwargs):
        super().__init__(**kwargs)
        self._settings, self._tokens = settings, dict(tokens)
        config = _block_config(settings)
        shape = [sum(tokens.values()) + 1, settings.cut_size]
        self.places = self.add_weight("places", shape, initializer=tf_keras.initializers.RandomNormal(stddev=0.02))
        self.blocks = [blocks.Block(config, name=f"block_{i}") for i in range(settings.top_layers)]
        self.norm = blocks.layer_norm(config, "norm")
        self.hidden = tf_keras.layers.Dense(4 * settings.cut_size, "relu", name="hidden")
        self.out = tf_keras.layers.Dense(outputs, name="out")

    def call(self, inputs, training=False):
        """A mapping: a party's name to float32 [batch, tokens, cut_size], and `present` to bool [batch, parties].

        Returns:
          float32 [batch, outputs].
        """
        present = inputs["present"]
        mask = tf.repeat(present, list(self._tokens.values()), axis=1)
        # What a missing party's place holds must not matter, in the gradient neither.
        cuts = tf.concat([inputs[name] for name in self._tokens], axis=1) * tf.cast(mask, tf.float32)[..., tf.newaxis]
        if self._settings.top == "comparison":
            return self.out(self.hidden(comparisons([inputs[name] for name in self._tokens], present)))
        if self._settings.top == "sum":
            return self.out(self.hidden(tf.reduce_sum(cuts, axis=1)))
        if self._settings.top == "concatenation":
            flat = tf.reshape(cuts, [tf.shape(cuts)[0], cuts.shape[1] * cuts.shape[2]])
            return self.out(self.hidden(flat))
        x = tf.concat([tf.zeros_like(cuts[:, :1]), cuts], axis=1) + self.places
        seen = tf.concat([tf.ones([tf.shape(mask)[0], 1], mask.dtype), mask], axis=1)
        for block in self.blocks:
            x = block(x, seen[:, tf.newaxis], training=training)
        return self.out(self.norm(x[:, 0]))


def _block_config(settings: VerticalConfig, **more: Any) -> FtTransformerConfig:
    own = {
        "hidden_size": settings.cut_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": 2 * settings.cut_size,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
    }
    return FtTransformerConfig(**{**own, **more})


def build_bottom(
    party: PartyConfig, settings: VerticalConfig, facts: Mapping[str, Any], inputs: Mapping[str, np.ndarray], seed: int
) -> Bottom:
    """A party's bottom with its initial weights.

    Args:
      party: What it knows.
      settings: Sizes.
      facts: Means, deviations and categories of a table, see `find_facts`.
      inputs: Some of its rows, for their shapes.
      seed: Of the weights that no checkpoint has.

    Raises:
      UserError: If a checkpoint cannot be loaded.
    """
    with initial_weights.seeded(seed):
        bottom = Bottom(_body(party, settings, facts, inputs, seed), settings.cut_size, party.pools, name="bottom")
        bottom({name: tf.constant(array[:1]) for name, array in inputs.items()})
    return bottom


def _body(party, settings, facts, inputs, seed):
    if "features" in inputs:
        return None
    if party.pretrained:
        return load_encoder(party, seed)
    if party.kind == "table":
        return Backbone(_block_config(settings, **{**facts, **party.config}), name="backbone")
    return Patches(_block_config(settings, **party.config), name="patches")


def build_top(settings: VerticalConfig, tokens: Mapping[str, int], outputs: int, seed: int) -> Top:
    """The top model with its initial weights; arguments as of `Top`."""
    with initial_weights.seeded(seed):
        top = Top(settings, tokens, outputs, name="top")
        top(_one_row(settings, tokens))
    return top


class Middle(tf_keras.Model):
    """The top's body without its head: what it makes of a row is a token."""

    def __init__(self, settings: VerticalConfig, tokens: Mapping[str, int], **kwargs):
        super().__init__(**kwargs)
        self.body = Top(settings, tokens, settings.cut_size, name="body")

    def call(self, inputs, training=False):
        """As `Top`, to float32 [batch, 1, cut_size]."""
        return self.body(inputs, training=training)[:, tf.newaxis]


def build_middle(settings: VerticalConfig, tokens: Mapping[str, int], seed: int) -> Middle:
    """The top's body with its initial weights; arguments as of `Top`."""
    with initial_weights.seeded(seed):
        middle = Middle(settings, tokens, name="middle")
        middle(_one_row(settings, tokens))
    return middle


def _one_row(settings, tokens):
    rows = {name: tf.zeros(spec.shape[1:])[tf.newaxis] for name, spec in _cut_specs(settings, tokens).items()}
    return {**rows, "present": tf.ones([1, len(tokens)], tf.bool)}


def _cut_specs(settings, tokens):
    return {name: tf.TensorSpec([None, number, settings.cut_size]) for name, number in tokens.items()}


def top_spec(settings: VerticalConfig, tokens: Mapping[str, int]) -> dict[str, tf.TensorSpec]:
    """Specs of a batch of the top's inputs."""
    present = tf.TensorSpec([None, len(tokens)], tf.bool)
    return {**_cut_specs(settings, tokens), "present": present, models.SEED: tf.TensorSpec([2], tf.int64)}
