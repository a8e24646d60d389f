"""Clients' own adapters beside a published model, into which the adapters that all share are merged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.cohorts.client_store import PERSONAL
from tff_tx.core import codec, files
from tff_tx.core.errors import UserError
from tff_tx.run.assemble.personal import NEWEST, OwnWeights

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


@dataclasses.dataclass(frozen=True)
class OwnAdapters(OwnWeights):
    """Gives a client's weights of a published model: its own adapters take the place of those that all share.

    A weight that is W + s A B becomes W + s A_k B_k.

    Attributes:
      shared: The weights that all share and train, and frozen A after them.
      found: Of `facts`.
      places: Positions of `found`'s adapters and others among the published model's weights.
    """

    shared: tuple[np.ndarray, ...] = ()
    found: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    places: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @classmethod
    def load(
        cls, own: OwnWeights, model: models.TransformerModel, found: Mapping[str, Any], run_dir: str
    ) -> OwnAdapters:
        """Of a run, by its `facts`, for the published model; `own` has the clients' store.

        Raises:
          UserError: If the file with the shared adapters is missing or damaged.
        """
        path = os.path.join(run_dir, PERSONAL, _SHARED)
        try:
            with open(path, "rb") as file:
                shared = tuple(codec.decode(file.read(), max_bytes=None))
        except (OSError, codec.CodecError) as error:
            raise UserError(
                f"{path} is missing or damaged ({getattr(error, 'strerror', None) or error}): restore it, as clients' "
                "own adapters take the place of those in it."
            ) from error
        places = model.positions(list(found["a_b"])), model.positions(list(found["others"]))
        return cls(own.store, (), own.own_weights, shared, found, places)

    def __call__(self, weights: list, client_id: str) -> list:
        weights, stored = list(weights), self.store.read(client_id, NEWEST)
        if stored is None:
            return weights
        number, (_, *state) = self.found["trained"], stored
        own = [*map(np.asarray, self.own_weights(self.shared[:number], tuple(state))), *self.shared[number:]]
        adapted, others = self.places
        for position, i in zip(others, self.found["others"].values()):
            weights[position] = tf.convert_to_tensor(own[i])
        for position, (a, b) in zip(adapted, self.found["a_b"].values()):
            change = np.float32(self.found["scale"]) * (own[a] @ own[b] - self.shared[a] @ self.shared[b])
            weights[position] = weights[position] + tf.reshape(change, weights[position].shape)
        return weights
