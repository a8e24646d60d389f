"""Where a model repeats itself: its Transformer blocks, found without knowing the architecture."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf
import tf_keras

from tff_tx.core.errors import UserError, setting

KERAS_BOOKKEEPING = re.compile(r"^_(self_|obj_reference|undeduplicated|saved_model)")
"""Attributes of layers that are Keras' own."""

_LAYERS = (tf_keras.layers.Layer, tf.keras.layers.Layer)


def transformer_blocks(model: Any) -> list:
    """The layers that a model has in lists of layers of one class, each of them made of layers with weights.

    Of lists within such lists (Swin's blocks within its stages) the inner ones.

    Args:
      model: A built Keras model.

    Raises:
      UserError: If there are none.
    """
    lists = (
        value
        for layer in (model, *model.submodules)
        for name, value in vars(layer).items()
        if not KERAS_BOOKKEEPING.match(name) and _is_stack(value)
    )
    found = list({id(block): block for stack in lists for block in stack}.values())
    blocks = [block for block in found if not any(other in found for other in block.submodules)]
    if not blocks:
        raise UserError(
            f"{setting('model.gradient_checkpointing')} computes Transformer blocks again, and "
            f"{type(model).__name__} has no list of "
            "such layers: drop it."
        )
    return blocks


def _is_stack(value) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len({type(layer) for layer in value}) == 1
        and all(isinstance(layer, _LAYERS) and any(part.weights for part in _layers(layer)) for layer in value)
    )


def _layers(layer):
    return [part for part in layer.submodules if isinstance(part, _LAYERS)]
