"""Personal weights of a run's clients: where they are, and how a model gets them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import tensorflow as tf

from tff_tx import cohorts, models, runtime
from tff_tx.cohorts.client_store import PERSONAL
from tff_tx.config import RunConfig

_NEWEST = 2**62


@dataclasses.dataclass(frozen=True)
class OwnWeights:
    """Puts a client's own weights in place of those that clients begin with.

    Attributes:
      store: Of the run's clients.
      positions: Of these weights among all of the model's, the trainable ones first.
    """

    store: cohorts.ClientStore
    positions: tuple[int, ...]
    is_pure = False

    def __call__(self, weights: list, client_id: str) -> list:
        """The weights of a client that has none of its own are as given."""
        weights = list(weights)
        for position, own in zip(self.positions, self.store.read(client_id, _NEWEST) or ()):
            weights[position] = tf.convert_to_tensor(own)
        return weights

    def notes(self, client_ids: Sequence[str]) -> list[str]:
        """A line on clients without weights of their own, if there are any."""
        number = sum(not self.store.has(client_id) for client_id in client_ids)
        what = "clients have no weights of their own, but those that a client begins with"
        return [f"{number:,} of {len(client_ids):,} {what}"] if number else []


def _store(directory, rounds_kept=1):
    return cohorts.ClientStore(os.path.join(directory, PERSONAL), rounds_kept)


def build_hook(config: RunConfig) -> runtime.PersonalWeights:
    """The hook by which clients train from weights of their own, as far back as a run may resume."""
    return runtime.PersonalWeights(_store(config.run.directory, 2 * config.run.rounds_per_checkpoint))


def stored_weights(directory: str, model: models.TransformerModel, names: Sequence[str]) -> OwnWeights:
    """Of the clients of a run in this directory, for a model of its weights; `names` are of the personal ones."""
    return OwnWeights(_store(directory), model.positions(names))
