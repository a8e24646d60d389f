"""Self-attentive sequential recommendation: SASRec (Kang and McAuley 2018, https://arxiv.org/abs/1808.09781)."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tff_tx.models.zoo import blocks

PADDING = 0
"""The id of no item; those of items begin with 1."""


class SasRecConfig(blocks.Config):
    """Fields of a `TFSasRec`; `num_labels` is the number of items.

    Attributes:
      max_position_embeddings: The last so many items of a history are looked at.
      hidden_size: Width.
      num_hidden_layers: Layers.
      num_attention_heads: Heads a layer.
      intermediate_size: Width inside of the dense layers.
      hidden_dropout_prob: Dropout rate of the embeddings and after each sublayer.
      attention_probs_dropout_prob: Dropout rate of attention weights.
      initializer_range: Standard deviation of initial embeddings.
      layer_norm_eps: Epsilon of layer normalization.
    """

    model_type = "sasrec"

    DEFAULTS = {
        "max_position_embeddings": 50,
        "hidden_size": 50,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 50,
        "hidden_dropout_prob": 0.5,
        "attention_probs_dropout_prob": 0.5,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-8,
    }


class _Backbone(tf_keras.layers.Layer):
    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self._config = config
        self.dropout = tf_keras.layers.Dropout(config.hidden_dropout_prob)
        self.blocks = [blocks.Block(config, "relu", name=f"block_{i}") for i in range(config.num_hidden_layers)]
        self.norm = blocks.layer_norm(config, "norm")

    def build(self, input_shape):
        self.items = self._embeddings("items", self._config.num_labels + 1)
        self.positions = self._embeddings("positions", self._config.max_position_embeddings)
        super().build(input_shape)

    def _embeddings(self, name, rows):
        initializer = tf_keras.initializers.RandomNormal(0.0, self._config.initializer_range)
        return self.add_weight(name, [rows, self._config.hidden_size], initializer=initializer)

    def call(self, item_ids, training=False):
        """Int32 [batch, length] to float32 [batch, length, hidden]."""
        length = tf.shape(item_ids)[1]
        x = tf.gather(self.items, item_ids) * self._config.hidden_size**0.5
        # Positions count from the end, where histories of all lengths meet.
        x = x + self.positions[self._config.max_position_embeddings - length :]
        x = self.dropout(x, training=training)
        mask = attention_mask(item_ids)
        for block in self.blocks:
            x = block(x, mask=mask, training=training)
        return self.norm(x)


class TFSasRec(blocks.Model):
    """Scores items as the next of a history."""

    config_class = SasRecConfig

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.backbone = _Backbone(config, name="backbone")

    @property
    def dummy_inputs(self):
        """One history of one item, with one candidate."""
        return {"item_ids": tf.ones([1, 1], tf.int32), "candidates": tf.ones([1, 1, 1], tf.int32)}

    def call(self, item_ids, candidates, training=False):
        """Scores candidates by the inner product of their embedding with the state after an item (equation 5).

        Args:
          item_ids: int32 [batch, length], histories with `PADDING` in front, at most `max_position_embeddings` items.
          candidates: int32 [batch, positions, candidates], what may follow each of the last `positions` items.
          training: Whether to drop out.

        Returns:
          float32 [batch, positions, candidates].
        """
        hidden = self.backbone(item_ids, training=training)
        last = hidden[:, tf.shape(hidden)[1] - tf.shape(candidates)[1] :]
        return tf.einsum("bph,bpch->bpc", last, tf.gather(self.backbone.items, candidates))


def attention_mask(item_ids: tf.Tensor) -> tf.Tensor:
    """Who sees whom: no item sees a later one or the padding; bool [batch, length, length]."""
    length = tf.shape(item_ids)[1]
    causal = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
    return causal & tf.not_equal(item_ids, PADDING)[:, tf.newaxis]


TFAutoModelForNextItem = blocks.auto_class("TFAutoModelForNextItem", TFSasRec)
