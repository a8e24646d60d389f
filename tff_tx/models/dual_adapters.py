"""Two adapters on each adapted weight: that which all share, and a client's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tff_tx.models.functional import TransformerModel


@dataclasses.dataclass(frozen=True)
class DualAdapters:
    """A model whose adapted layers add up shared and own adapters, as a function of the own ones.

    With shared A and B, own A_k and B_k, and alpha the share of the own ones, an adapted weight acts as
    W + (1 - alpha) s A B + alpha s A_k B_k. A weight that is trained beside adapters, as that of a head, acts as
    (1 - alpha) H + alpha H_k.

    Attributes:
      model: With adapters of one rank, of the shared weights alone.
      share: alpha.
    """

    model: TransformerModel
    share: float

    @property
    def initial_weights(self) -> tuple[tuple, tuple]:
        """(own weights, (others, shared weights)), both as the model is at first."""
        trainable, others = self.model.initial_weights
        return trainable, (*others, *trainable)

    def added_up(self, shared: Sequence[Any], others: Sequence[Any], own: Sequence[Any]) -> list:
        """All weights with which the model computes the sum, the trainable ones first."""
        alpha, lora, number = self.share, self.model.lora, len(shared)
        weights = [(1 - alpha) * w + alpha * v for w, v in zip(shared, own)]
        weights += others
        before = [*shared, *others]
        for at, adapted in zip(self.model.adapter_positions, self.model.positions(self.model.adapted_names)):
            a = at.a + number * lora.freeze_a
            change = (1 - alpha) * lora.scale * tf.matmul(before[a], before[at.b])
            weight = weights[adapted]
            weights[adapted] = weight + tf.cast(tf.reshape(change, weight.shape), weight.dtype)
            weights[at.b] = alpha * own[at.b]
            if not lora.freeze_a:
                weights[at.a] = own[at.a]
        return [tf.convert_to_tensor(w) for w in weights]

    def predict_on_batch(self, weights: Any, x: Any, training: bool = True) -> tf.Tensor:
        """The predictions for `x`, by weights as of `initial_weights`."""
        own, rest = weights
        number = len(own)
        others, shared = rest[: len(rest) - number], rest[len(rest) - number :]
        found = self.added_up(shared, others, own)
        return self.model.predict_on_batch((tuple(found[:number]), tuple(found[number:])), x, training=training)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)
