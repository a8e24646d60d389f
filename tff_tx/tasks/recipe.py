"""How stored examples become a batch, and the parts that several tasks share."""

from __future__ import annotations

import abc
import collections
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_tx.models import IGNORED

PADDING = -1
"""Stands for no token while a batch is padded: no tokenizer's id, unlike the padding token's own."""

IDS = tf.TensorSpec([None, None], tf.int32)
"""Of a batch of sequences."""


class Recipe(abc.ABC):
    """From stored examples, padded to one length, to a batch.

    Attributes:
      pads: By feature, its value in padding.
      lengthwise: Features that are as long as the example, in their first dimension; the first of them measures it.
        Empty where all examples have one length.
      pad_id: The token that stands in the padding of `input_ids`; None without tokens.
    """

    pads: Mapping[str, Any]
    lengthwise: tuple[str, ...] = ()
    pad_id: int | None = None

    @abc.abstractmethod
    def inputs(self, element_spec: Mapping[str, tf.TensorSpec]) -> collections.OrderedDict:
        """`tf.TensorSpec`s of a batch of inputs, for examples of that spec."""

    @abc.abstractmethod
    def batch(self, features: Mapping[str, tf.Tensor], seed: tf.Tensor) -> tuple[collections.OrderedDict, tf.Tensor]:
        """Inputs and labels of a batch for training.

        Args:
          features: Stacked features of the examples.
          seed: int64 [2], of random draws.
        """

    def evaluation_batch(self, features: Mapping[str, tf.Tensor], seed: tf.Tensor) -> tuple:
        """The same for evaluation."""
        return self.batch(features, seed)


class LabelledRecipe(Recipe):
    """Features of fixed shapes as they are stored, with one label an example.

    Args:
      pads: See `Recipe`; only the label of examples that complete a batch is ever used.
    """

    def __init__(self, pads: Mapping[str, Any]):
        self.pads = {**pads, "label": IGNORED}

    def inputs(self, element_spec):
        return collections.OrderedDict(
            (name, tf.TensorSpec([None, *spec.shape], spec.dtype))
            for name, spec in element_spec.items()
            if name != "label"
        )

    def batch(self, features, seed):
        x = collections.OrderedDict((name, value) for name, value in features.items() if name != "label")
        return x, features["label"]


class TextRecipe(Recipe):
    """Token ids, padded to the longest of the batch, with an attention mask; a subclass adds the labels.

    Args:
      tokenizer: Whose padding token is used; without one, id 0, as padding is masked.
    """

    pads: Mapping[str, Any] = {"input_ids": PADDING}
    lengthwise = ("input_ids",)

    def __init__(self, tokenizer: Any):
        self.pad_id = tokenizer.pad_token_id or 0

    def inputs(self, element_spec):
        return collections.OrderedDict(attention_mask=IDS, input_ids=IDS)

    def tokens(self, ids: tf.Tensor) -> collections.OrderedDict:
        """`attention_mask` and `input_ids`, int32 as `ids`, of which `PADDING` becomes the padding token."""
        is_token = tf.not_equal(ids, PADDING)
        return collections.OrderedDict(
            attention_mask=tf.cast(is_token, tf.int32), input_ids=tf.where(is_token, ids, self.pad_id)
        )


class RecordingRecipe(Recipe):
    """Samples, padded to the longest recording of the batch, with an attention mask; or spectrograms of one length.

    A subclass adds the labels, and the padding of those.
    """

    # Silence is a value, and no sample infinite.
    pads: Mapping[str, Any] = {"input_values": -math.inf, "input_features": 0.0}
    lengthwise = ("input_values",)

    def inputs(self, element_spec):
        if "input_values" in element_spec:
            return collections.OrderedDict(attention_mask=IDS, input_values=tf.TensorSpec([None, None], tf.float32))
        return collections.OrderedDict(input_features=tf.TensorSpec([None, *element_spec["input_features"].shape]))

    def recordings(self, features: Mapping[str, tf.Tensor]) -> collections.OrderedDict:
        """`attention_mask` and `input_values`, or `input_features`."""
        if "input_features" in features:
            return collections.OrderedDict(input_features=features["input_features"])
        values = features["input_values"]
        is_sample = values > self.pads["input_values"]
        return collections.OrderedDict(
            attention_mask=tf.cast(is_sample, tf.int32), input_values=tf.where(is_sample, values, 0.0)
        )
