"""Dropout at other rates than the layers were built with."""

from __future__ import annotations

import contextlib
from typing import Any

import tensorflow as tf
import tf_keras

from tff_tx.core import internals
from tff_tx.core.errors import UserError, setting

RATE = "dropout_rate"
"""The input of `ModelGraphs.at_any_rate` that carries the rate: float32, a scalar, not batched."""


def _layers(model):
    found = [part for part in model.submodules if isinstance(part, (tf_keras.layers.Dropout, tf.keras.layers.Dropout))]
    if not found:
        raise UserError(
            f"{setting('model.dropout')} has no effect on {type(model).__name__}, which has no dropout layers: remove "
            "it, or set the rates in the model's configuration."
        )
    return found


def set_dropout(model: Any, rate: float) -> None:
    """Has all dropout layers of a Keras model drop at a rate.

    Raises:
      UserError: If it has none.
    """
    for layer in _layers(model):
        layer.rate = rate


def at_rate(model: Any, rate: tf.Tensor | None) -> contextlib.AbstractContextManager:
    """The same for the length of a block, at a rate that may be a float32 scalar tensor; None: at their own."""
    if rate is None:
        return contextlib.nullcontext()
    return internals.swapped(*((vars(layer), "rate", rate) for layer in _layers(model)))
