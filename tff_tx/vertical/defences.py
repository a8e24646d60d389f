"""What a label party does so that the gradients it sends do not tell labels."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tff_tx.config.vertical import VerticalConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.vertical.crossing import Guard
from tff_tx.vertical.label_party import Defend
from tff_tx.vertical.marvell import marvell


def gradient_defence(settings: VerticalConfig, classes: int) -> Defend | None:
    """The defence that settings name; None: gradients are sent as they are.

    Args:
      settings: Of the federation.
      classes: Number of classes; 1: labels are numbers.

    Raises:
      UserError: If the defence is for two classes and there are others.
    """
    if settings.gradient_defence == "marvell":
        if classes != 2:
            raise UserError(
                f"{setting('vertical.gradient_defence')}=marvell hides two classes from each other, and there are "
                f"{classes}: choose max_norm or noise."
            )
        return marvell(settings.gradient_power)
    if settings.gradient_defence == "max_norm":
        return max_norm
    if settings.gradient_defence == "noise":
        guard = Guard(settings.gradient_clip, settings.gradient_noise)
        return lambda gradients, labels, key: guard(gradients, key)
    return None


def max_norm(gradients: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Noise along each row's gradient, so that all have the expected squared norm of the batch's longest.

    g (1 + e), e ~ N(0, |g_max|^2 / |g|^2 - 1) (Li et al. 2021, "Label leakage and protection in two-party split
    learning", https://arxiv.org/abs/2102.08504, section 4.1). It hides norms; directions stay.

    Args:
      gradients: float32 [batch, tokens, size].
      labels: [batch], not used.
      key: int64 [2].
    """
    del labels
    squared = tf.reduce_sum(tf.square(gradients), axis=[1, 2], keepdims=True)
    excess = tf.math.divide_no_nan(tf.reduce_max(squared), squared) - 1.0
    draws = tf.random.stateless_normal(tf.shape(squared), key, alg="philox")
    return gradients * (1.0 + tf.sqrt(tf.maximum(excess, 0.0)) * draws)


def randomized_labels(labels: np.ndarray, classes: int, epsilon: float, seed: int) -> np.ndarray:
    """Randomized response: labels with epsilon-label differential privacy, drawn once.

    A label stays with probability e^epsilon / (e^epsilon + classes - 1), and becomes any other one alike (Warner 1965;
    Ghazi et al. 2021, https://arxiv.org/abs/2102.06062, without its prior).

    Args:
      labels: int32 [rows].
      classes: Their number.
      epsilon: Of label differential privacy.
      seed: Of the draw.
    """
    draw = np.random.default_rng(seed)
    stays = draw.random(len(labels)) < 1.0 / (1.0 + (classes - 1) * np.exp(-epsilon))
    others = (labels + draw.integers(1, classes, len(labels))) % classes
    return np.where(stays, labels, others).astype(labels.dtype)
