"""Weights of a checkpoint in a model of other sizes: vocabulary, positions, images and their channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_ROWS = ("vocab_size", "max_position_embeddings", "n_positions")
SIZES = (*_ROWS, "image_size", "num_channels")
"""Fields of configurations by which weights differ in a way that is made up for here."""


def changed(config: Any, changes: Mapping[str, Any]) -> bool:
    """Whether such a field is."""
    return any(name in changes and getattr(config, name, None) not in (None, changes[name]) for name in SIZES)


def fit(model: Any, checkpoint: Any) -> list:
    """Takes weights of another shape from a checkpoint, as far as only its sizes are others.

    Rows for tokens and positions are kept, and new ones are the mean of those; position embeddings of image patches are
    interpolated (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, section 3.2); kernels for other channels
    have in each of them the mean of the old ones, with the same sum.

    Args:
      model: A Keras model.
      checkpoint: One of the same class, with the sizes of the checkpoint.

    Returns:
      The variables of `model` that have been assigned.
    """
    found = []
    for variable, old in zip(model.weights, checkpoint.weights, strict=True):
        value = _resized(old.numpy(), variable.shape, checkpoint.config, model.config)
        if value is not None:
            variable.assign(value)
            found.append(variable)
    return found


def _resized(old, shape, before, after):
    axes = [axis for axis, sizes in enumerate(zip(old.shape, shape)) if sizes[0] != sizes[1]]
    if old.ndim != len(shape) or len(axes) != 1:
        return None
    (axis,) = axes
    more = shape[axis] - old.shape[axis]
    if more in {getattr(after, name, 0) - getattr(before, name, 0) for name in _ROWS}:
        kept = np.take(old, range(min(old.shape[axis], shape[axis])), axis)
        new = np.repeat(old.mean(axis, keepdims=True), max(more, 0), axis)
        return np.concatenate([kept, new], axis)
    if (old.shape[axis], shape[axis]) == tuple(getattr(c, "num_channels", None) for c in (before, after)):
        return np.repeat(old.sum(axis, keepdims=True) / shape[axis], shape[axis], axis)
    if len(shape) == 3 and axis == 1 and hasattr(after, "patch_size"):
        return _interpolated(old, *map(_patches, (before, after)), shape)
    return None


def _interpolated(old, before, after, shape):
    """Position embeddings [1, tokens, size], of which the last are of patches, row by row."""
    others = old.shape[1] - before[0] * before[1]
    if others < 0 or others + after[0] * after[1] != shape[1]:
        return None
    grid = old[:, others:].reshape(1, *before, -1)
    resized = tf.image.resize(grid, after, "bicubic").numpy().reshape(1, after[0] * after[1], -1)
    return np.concatenate([old[:, :others], resized], 1)


def _patches(config):
    """Patches in a column and in a row of an image."""
    image, patch = ((s, s) if isinstance(s, int) else tuple(s) for s in (config.image_size, config.patch_size))
    return image[0] // patch[0], image[1] // patch[1]
