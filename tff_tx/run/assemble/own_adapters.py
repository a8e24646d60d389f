"""Clients' own adapters: beside those that all share, and beside a published model into which the latter are merged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.cohorts.client_store import PERSONAL
from tff_tx.core import codec, files
from tff_tx.core.errors import UserError
from tff_tx.run.assemble.personal import OwnWeights
from tff_tx.run.fine_tuning import FineTuning

ADAPTERS = "adapters"
"""What `config.json` calls where the weights of clients' adapters are."""
_SHARED = "shared"
"""The file in `personal/` with the adapters that all share, before they were merged."""


def facts(model: models.TransformerModel) -> dict[str, Any]:
    """Where a model's adapters, and what is trained beside them, are in the file: by name of the Keras weight."""
    number = len(model.initial_weights[0])
    places = [(number + i if model.lora.freeze_a else at.a, at.b) for i, at in enumerate(model.adapter_positions)]
    adapters = dict(zip(model.adapted_names, places))
    return {"scale": model.lora.scale, "trained": number, "a_b": adapters, "others": model.positions_beside_adapters}


def save(model: models.TransformerModel, weights: Any, run_dir: str) -> None:
    """Writes the trained weights, and the A of adapters that are not trained, before they are merged."""
    frozen = [weights.non_trainable[at.a] for at in model.adapter_positions] if model.lora.freeze_a else []
    directory = os.path.join(run_dir, PERSONAL)
    files.make_private(directory)
    with files.atomic(os.path.join(directory, _SHARED), "wb", private=True) as file:
        file.write(codec.encode([np.asarray(w) for w in (*weights.trainable, *frozen)], entropy_coding=False))


def load(run_dir: str) -> tuple[np.ndarray, ...]:
    """What `save` has written.

    Raises:
      UserError: If the file is missing or damaged.
    """
    path = os.path.join(run_dir, PERSONAL, _SHARED)
    try:
        with open(path, "rb") as file:
            return tuple(codec.decode(file.read(), max_bytes=None))
    except (OSError, codec.CodecError) as error:
        raise UserError(
            f"{path} is missing or damaged ({getattr(error, 'strerror', None) or error}): restore it, as clients' "
            "own adapters take the place of those in it."
        ) from error


def unmerged(model: models.TransformerModel, shared: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The weights that are not trained of a published model with new adapters, as before what `load` gives was merged.

    Args:
      model: The published model, with adapters whose values do not matter.
      shared: The weights that all share and train, and frozen A after them.
    """
    trainable, others = model.initial_weights
    number, others = len(trainable), list(others)
    for i, (at, adapted) in enumerate(zip(model.adapter_positions, model.positions(model.adapted_names))):
        a = shared[number + i if model.lora.freeze_a else at.a]
        if model.lora.freeze_a:
            others[at.a] = a
        if adapted >= number:  # or it is among the shared ones itself
            weight = others[adapted - number]
            others[adapted - number] = weight - np.float32(model.lora.scale) * (a @ shared[at.b]).reshape(weight.shape)
    return others


@dataclasses.dataclass(frozen=True)
class TunedAdapters:
    """Gives a client's own adapters, which are trained beside the shared ones when they are needed.

    Attributes:
      tuning: Of a `models.DualAdapters`.
      others: The weights of its model that are not trained.
    """

    tuning: FineTuning
    others: tuple[Any, ...]
    is_pure = True

    def own(self, shared: Sequence[Any], client_id: str) -> Sequence[Any]:
        """A client's own weights, trained from those that all share."""
        shared = list(map(tf.convert_to_tensor, shared))
        return self.tuning([*shared, *map(tf.convert_to_tensor, self.others), *shared], client_id)[: len(shared)]


@dataclasses.dataclass(frozen=True)
class _Own:
    """Gives a client's weights, by its own adapters.

    Attributes:
      source: An `OwnWeights` or `TunedAdapters`.
    """

    source: Any

    @property
    def is_pure(self) -> bool:
        """As of the source."""
        return self.source.is_pure

    def notes(self, client_ids: Sequence[str]) -> list[str]:
        """Those of the source, if it has any."""
        return self.source.notes(client_ids) if isinstance(self.source, OwnWeights) else []


@dataclasses.dataclass(frozen=True)
class AddedAdapters(_Own):
    """Gives a client's weights of the model that is trained: its own adapters are added to those that all share.

    Attributes:
      dual: The model, with the share of the own ones.
    """

    dual: models.DualAdapters

    def __call__(self, weights: list, client_id: str) -> list:
        number = len(self.dual.initial_weights[0])
        shared, others = weights[:number], weights[number:]
        own = self.source.own(shared, client_id)
        return list(weights) if own is None else self.dual.added_up(shared, others, own)


@dataclasses.dataclass(frozen=True)
class OwnAdapters(_Own):
    """Gives a client's weights of a published model: its own adapters take the place of those that all share.

    A weight that is W + s A B becomes W + (1 - alpha) s A B + alpha s A_k B_k.

    Attributes:
      shared: The weights that all share and train, and frozen A after them.
      found: Of `facts`.
      places: Positions of `found`'s adapters and others among the published model's weights.
      share: alpha.
    """

    shared: tuple[np.ndarray, ...]
    found: Mapping[str, Any]
    places: tuple[tuple[int, ...], tuple[int, ...]]
    share: float = 1.0

    @property
    def positions(self) -> tuple[int, ...]:
        """Of the weights that clients have of their own."""
        return tuple(sorted({i for part in self.places for i in part}))

    @classmethod
    def of(
        cls, source: Any, model: models.TransformerModel, found: Mapping[str, Any], shared: tuple, share: float
    ) -> OwnAdapters:
        """Of a run, by its `facts` and what `load` has read, for the published model."""
        places = model.positions(list(found["a_b"])), model.positions(list(found["others"]))
        return cls(source, shared, found, places, share)

    def __call__(self, weights: list, client_id: str) -> list:
        number, weights = self.found["trained"], list(weights)
        found = self.source.own(self.shared[:number], client_id)
        if found is None:
            return weights
        own = [*map(np.asarray, found), *self.shared[number:]]
        adapted, others = self.places
        for position, i in zip(others, self.found["others"].values()):
            weights[position] = tf.convert_to_tensor((1 - self.share) * self.shared[i] + self.share * own[i])
        for position, (a, b) in zip(adapted, self.found["a_b"].values()):
            change = np.float32(self.share * self.found["scale"]) * (own[a] @ own[b] - self.shared[a] @ self.shared[b])
            weights[position] = weights[position] + tf.reshape(change, weights[position].shape)
        return weights
