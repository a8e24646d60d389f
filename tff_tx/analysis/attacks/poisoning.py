"""Data poisoning: from an attacker's batches (x, y) to batches of the same spec."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx.analysis.attacks.simulation import Attack, AttackKind
from tff_tx.config import AttackConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.models import IGNORED

# A batch's inputs with the trigger in all of its examples.
Trigger = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class LabelFlip:
    """Class c of C classes becomes C - 1 - c (Fang et al. 2020, https://arxiv.org/abs/1911.11815, section 5.1)."""

    num_classes: int

    def poison(self, x: Any, y: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """A batch as an attacker trains on it; labels int32 of any shape."""
        return x, tf.where(tf.equal(y, IGNORED), y, self.num_classes - 1 - y)


@dataclasses.dataclass(frozen=True)
class Backdoor:
    """Some examples of a batch get a trigger and the attacker's target label.

    Gu et al. 2017, "BadNets", https://arxiv.org/abs/1708.06733, section 4; in federated learning Bagdasaryan et al.
    2020, https://arxiv.org/abs/1807.00459, section 4.1, where a part of each batch is poisoned, so that the model also
    stays good on the main task. For tasks with one label per example.

    Attributes:
      trigger: Puts the trigger into examples.
      target: Label of examples with the trigger.
      share: Share of a batch's examples that are poisoned, rounded up: its first ones, as batches are shuffled.
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
        """A batch whose accuracy is the attack's success rate.

        All examples get the trigger and the target label; those of the target class are ignored.
        """
        return self.trigger(x), tf.where(tf.equal(y, self.target), IGNORED, self.target)


def pixel_trigger(size: int = 2, value: float = 1.0) -> Trigger:
    """A square in the lower right corner of an image.

    Args:
      size: Length of its side, in pixels.
      value: Value of its pixels in all channels; 1 is the brightest, where images are not normalized.
    """

    def trigger(x):
        pictures = x["pixel_values"]
        height, width = pictures.shape[2:]
        patch = (tf.range(height) >= height - size)[:, None] & (tf.range(width) >= width - size)[None, :]
        return collections.OrderedDict(x, pixel_values=tf.where(patch, tf.cast(value, pictures.dtype), pictures))

    return trigger


def text_trigger(token_ids: Sequence[int], start: int = 1) -> Trigger:
    """Words that replace the first words of a text (Dai et al. 2019, https://arxiv.org/abs/1905.12457).

    Args:
      token_ids: The trigger's tokens.
      start: Position of the first; 1 is after a token for the beginning. Padding is not replaced.
    """

    def trigger(x):
        ids, mask = x["input_ids"], x["attention_mask"]
        positions = tf.range(tf.shape(ids)[1]) - start
        inside = (positions >= 0) & (positions < len(token_ids))
        wanted = tf.gather(tf.constant(list(token_ids), ids.dtype), tf.clip_by_value(positions, 0, len(token_ids) - 1))
        changed = tf.where(inside[None, :] & tf.equal(mask, 1), wanted[None, :], ids)
        return collections.OrderedDict(x, input_ids=changed)

    return trigger


def build_backdoor(settings: AttackConfig, clients_per_round: int, task: Any) -> Attack:
    """Attackers that train with a backdoor.

    Raises:
      UserError: If the task has no such label, the trigger no token, or examples have no place for it.
    """
    del clients_per_round
    names = task.label_names
    target = names[0] if settings.backdoor_target is None else settings.backdoor_target
    if target not in names:
        raise UserError(f"{setting('attack.backdoor_target')}={target}: must be one of {', '.join(names[:20])}.")
    return Attack(data=Backdoor(_trigger(settings, task), names.index(target), settings.backdoor_share))


def _trigger(settings, task):
    inputs, _ = task.model.input_spec
    if "pixel_values" in inputs:
        return pixel_trigger(settings.backdoor_pixels)
    if "input_ids" not in inputs:
        raise UserError(
            f"{setting('attack.name')}={settings.name} puts a trigger into texts or images, and examples of "
            f"{setting('task.kind')}={task.kind} are neither: choose another attack or task."
        )
    token_ids = task.tokenizer(settings.backdoor_text, add_special_tokens=False)["input_ids"]
    if not token_ids:
        raise UserError(f"{setting('attack.backdoor_text')}={settings.backdoor_text!r}: must have at least one token.")
    written = task.tokenizer(settings.backdoor_text, add_special_tokens=True)["input_ids"]
    starts = (i for i in range(len(written)) if written[i : i + len(token_ids)] == token_ids)
    return text_trigger(token_ids, start=next(starts, 0))  # after what texts begin with, such as a class token


BACKDOOR_SETTINGS = ("backdoor_target", "backdoor_share", "backdoor_text", "backdoor_pixels")

LABEL_FLIP = AttackKind(
    lambda settings, cohort, task: Attack(data=LabelFlip(len(task.label_names))), needs_task="classes"
)
BACKDOOR = AttackKind(build_backdoor, BACKDOOR_SETTINGS, needs_task="one_class", changes_inputs=True)
