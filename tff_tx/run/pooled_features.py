"""The vector that a model makes of an example and its head takes: by it examples are compared with one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError, setting


class PooledFeatures:
    """The features of examples, of a model whose head alone is trainable, made with `frozen_dropout=False`.

    Attributes:
      model: The model.
      width: Numbers that features have.

    Args:
      model: The model.
      path: The setting that needs them, for errors.
      value: Its value.

    Raises:
      UserError: If the model's features have no fixed size.
    """

    def __init__(self, model: models.TransformerModel, path: str, value: Any):
        self.model, self._extractor = model, models.FeatureExtractor(model)
        specs = self._extractor.specs.values()
        if any(None in spec.shape[1:] for spec in specs):
            raise UserError(
                f"{setting(path)}={value}: the head of {type(model.keras_model).__name__} reads every token, and "
                "examples are compared by one vector of each: choose a model that classifies a pooled vector."
            )
        self.width = sum(int(np.prod(spec.shape[1:])) for spec in specs)

    def __call__(self, weights: tuple, x: Any) -> tf.Tensor:
        """Features of a batch, float32 [batch, width], by the model's (trainable, other) weights; traceable."""
        found = self._extractor(weights, x).values()
        return tf.concat([tf.reshape(tf.cast(f, tf.float32), [tf.shape(f)[0], -1]) for f in found], axis=1)
