"""The vector that a model makes of an example and its head takes: by it examples are compared with one another.

Of a decoder whose head takes those of all tokens and which predicts by the last one, it is that of the last one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError, setting

_MASK = "attention_mask"


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
      UserError: If the model's features are no such vectors.
    """

    def __init__(self, model: models.TransformerModel, path: str, value: Any):
        self.model, self._extractor = model, models.FeatureExtractor(model)
        x_spec, label_spec = model.input_spec
        specs = [spec.shape for spec in self._extractor.specs.values()]
        is_of_tokens = [None in shape[1:] for shape in specs]
        has_last = _MASK in x_spec and label_spec.shape.rank == 1
        if any(is_of_tokens) and not (has_last and len(specs) == 1 and specs[0].rank == 3):
            raise UserError(
                f"{setting(path)}={value}: the head of {type(model.keras_model).__name__} reads every token, and "
                "examples are compared by one vector of each: choose a task with one label an example."
            )
        self.width = sum(int(np.prod(shape[2 if of_tokens else 1 :])) for shape, of_tokens in zip(specs, is_of_tokens))
        self._takes_last = any(is_of_tokens)

    def __call__(self, weights: tuple, x: Any) -> tf.Tensor:
        """Features of a batch, float32 [batch, width], by the model's (trainable, other) weights; traceable."""
        found = list(self._extractor(weights, x).values())
        if self._takes_last:
            last = tf.reduce_sum(tf.cast(x[_MASK], tf.int32), 1) - 1
            found = [tf.gather(found[0], tf.maximum(last, 0), batch_dims=1)]
        return tf.concat([tf.reshape(tf.cast(f, tf.float32), [tf.shape(f)[0], -1]) for f in found], axis=1)
