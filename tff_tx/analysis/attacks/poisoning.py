"""Attacks on data: what attackers train on instead of what they have.

From batches (x, y) to batches of the same spec.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

_IGNORED = -100  # models.IGNORED, the label that counts for nothing

# A batch's inputs with the trigger in all of its examples.
Trigger = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class LabelFlip:
    """Class c of C becomes C - 1 - c (Fang et al. 2020, https://arxiv.org/abs/1911.11815, section 5.1).

    Attributes:
      num_classes: C.
    """

    num_classes: int

    def poison(self, x: Any, y: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """A batch as an attacker trains on it; labels int32 of any shape."""
        return x, tf.where(tf.equal(y, _IGNORED), y, self.num_classes - 1 - y)


@dataclasses.dataclass(frozen=True)
class Backdoor:
    """Some examples of a batch get a trigger and the label of the attacker's choice, the others stay.

    Gu et al. 2017, "BadNets", https://arxiv.org/abs/1708.06733, section 4; in federated learning Bagdasaryan et al.
    2020, https://arxiv.org/abs/1807.00459, section 4.1, where a part of each batch is poisoned, so that the model also
    stays good on the main task. For tasks with one label an example.

    Attributes:
      trigger: Puts the trigger into examples.
      target: The label that the model is to give to examples with the trigger.
      share: Of a batch's examples that are poisoned, rounded up: its first ones, which are random, as batches are.
    """

    trigger: Trigger
    target: int
    share: float = 0.5

    def poison(self, x: Any, y: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """A batch as an attacker trains on it; labels int32 [batch]."""
        size = tf.shape(y)[0]
        number = tf.cast(tf.math.ceil(self.share * tf.cast(size, tf.float32)), tf.int32)
        poisoned = tf.range(size) < number
        triggered = self.trigger(x)

        def choose(changed, original):
            if changed is original:
                return original
            mask = tf.reshape(poisoned, [-1] + [1] * (original.shape.rank - 1))
            return tf.where(mask, changed, original)

        mixed = collections.OrderedDict((name, choose(triggered[name], x[name])) for name in x)
        return mixed, tf.where(poisoned, self.target, y)

    def trap(self, x: Any, y: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """A batch to measure success on: its accuracy is the share of examples that the trigger turns.

        All get the trigger and the target for a label; those that have it by right do not count.
        """
        return self.trigger(x), tf.where(tf.equal(y, self.target), _IGNORED, self.target)


def pixel_trigger(size: int = 2, value: float = 1.0) -> Trigger:
    """A square in the lower right corner of a picture.

    Args:
      size: Of its side, in pixels.
      value: Of its pixels in all channels; 1 is the brightest, where pictures are not normalized.
    """

    def trigger(x):
        pictures = x["pixel_values"]
        height, width = pictures.shape[2:]
        patch = (tf.range(height) >= height - size)[:, None] & (tf.range(width) >= width - size)[None, :]
        changed = collections.OrderedDict(x)
        changed["pixel_values"] = tf.where(patch, tf.cast(value, pictures.dtype), pictures)
        return changed

    return trigger


def text_trigger(token_ids: Sequence[int], start: int = 1) -> Trigger:
    """Words in place of those at the beginning of a text (Dai et al. 2019, https://arxiv.org/abs/1905.12457).

    Args:
      token_ids: The trigger's tokens.
      start: Where the first goes; 1 is after the token for the beginning. What is beyond the text stays padding.
    """

    def trigger(x):
        ids, mask = x["input_ids"], x["attention_mask"]
        positions = tf.range(tf.shape(ids)[1]) - start
        inside = (positions >= 0) & (positions < len(token_ids))
        wanted = tf.gather(tf.constant(list(token_ids), ids.dtype), tf.clip_by_value(positions, 0, len(token_ids) - 1))
        changed = collections.OrderedDict(x)
        changed["input_ids"] = tf.where(inside[None, :] & tf.equal(mask, 1), wanted[None, :], ids)
        return changed

    return trigger
