"""Bottoms from files: a Hugging Face checkpoint, or a Keras model that a party saved."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tff_tx import models
from tff_tx.config.vertical import PartyConfig
from tff_tx.core.errors import UserError


class SavedKeras(tf_keras.layers.Layer):
    """A Keras model of one input, numbers or pixels, whose output is a token or tokens of a row.

    Args:
      path: A file of `model.save("NAME.keras")`.

    Raises:
      UserError: If it is no such file, or its output is of another rank.
    """

    def __init__(self, path: str, **kwargs):
        super().__init__(**kwargs)
        try:
            self.model = tf_keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read as a Keras model ({str(error).splitlines()[0]}).") from None
        if (
            len(self.model.inputs) != 1
            or len(self.model.outputs) != 1
            or self.model.outputs[0].shape.rank not in (2, 3)
        ):
            raise UserError(
                f"{path} must have one input and one output, of shape [rows, size] or [rows, tokens, size]; it has "
                f"{[tuple(x.shape) for x in self.model.inputs]} and {[tuple(x.shape) for x in self.model.outputs]}."
            )

    def call(self, inputs, training=False):
        """`numbers` or `pixel_values` to float32 [batch, tokens, size]."""
        given = inputs["numbers" if "numbers" in inputs else "pixel_values"]
        if not self.model.inputs[0].shape.is_compatible_with(given.shape):
            raise UserError(
                f"a Keras model reads rows of shape {tuple(self.model.inputs[0].shape[1:])}, and the party has rows "
                f"of shape {tuple(given.shape[1:])}: name as many columns as it reads."
            )
        found = self.model(given, training=training)
        return found if found.shape.rank == 3 else found[:, tf.newaxis]


def load_encoder(party: PartyConfig, seed: int = 0) -> Any:
    """A party's pretrained bottom: from inputs to tokens, or to a value with them as `last_hidden_state`.

    Raises:
      UserError: If it cannot be loaded.
    """
    if party.is_keras:
        return SavedKeras(party.pretrained, name="saved")
    return models.from_pretrained("TFAutoModel", party.pretrained, party.config, seed)
