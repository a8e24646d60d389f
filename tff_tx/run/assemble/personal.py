"""Personal weights of a run's clients: where they are, and how a model gets them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx import cohorts, runtime
from tff_tx.cohorts.client_store import PERSONAL
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.run.checkpoints import model_round, newest_rows
from tff_tx.run.directory import CHECKPOINTS

NEWEST = 2**62
"""Later than any round."""


@dataclasses.dataclass(frozen=True)
class OwnWeights:
    """Gives a client's weights, of those given and what it has stored.

    Attributes:
      store: Of the run's clients.
      positions: Of the weights that are the client's own, among all of the model's, the trainable ones first.
      own_weights: As of `algorithms.Algorithm`; None: what is stored are the weights.
    """

    store: cohorts.ClientStore
    positions: tuple[int, ...]
    own_weights: Callable[[tuple, tuple], tuple] | None = None
    is_pure = False

    def own(self, shared: Sequence[Any], client_id: str) -> Sequence[Any] | None:
        """A client's own weights, by those that all share in their place; None: it has none."""
        stored = self.store.read(client_id, NEWEST)
        if stored is None or self.own_weights is None:
            return stored
        _, *state = map(tf.convert_to_tensor, stored)  # without the number of its rounds
        return self.own_weights(tuple(map(tf.convert_to_tensor, shared)), tuple(state))

    def __call__(self, weights: list, client_id: str) -> list:
        """The weights of a client that has none of its own are as given."""
        weights = list(weights)
        found = self.own([weights[i] for i in self.positions], client_id)
        for position, own in zip(self.positions, found or ()):
            weights[position] = tf.convert_to_tensor(own)
        return weights

    def notes(self, client_ids: Sequence[str]) -> list[str]:
        """A line on clients without weights of their own, if there are any."""
        number = sum(not self.store.has(client_id) for client_id in client_ids)
        what = "clients have no weights of their own, but those that a client begins with"
        return [f"{number:,} of {len(client_ids):,} {what}"] if number else []


def _store(directory, rounds_kept=1):
    return cohorts.ClientStore(os.path.join(directory, PERSONAL), rounds_kept)


def build_hook(config: RunConfig) -> runtime.Hook:
    """The hook by which clients retain weights of their own, as far back as a run may resume."""
    hook = runtime.PersonalWeights if config.model.personal is not None else runtime.RetainedState
    return hook(_store(config.run.directory, 2 * config.run.rounds_per_checkpoint))


def check_stored(directory: str) -> None:
    """Checks that the clients of a trained run have the weights that they had beside its newest checkpoint.

    Raises:
      UserError: If some are gone, so that their clients would have older ones or those that all begin with; or newer,
        of a run that went on after its model was made.
    """
    checkpoints = os.path.join(directory, CHECKPOINTS)
    round_num, rows = newest_rows(checkpoints)
    trained = model_round(checkpoints) or round_num
    if PERSONAL in rows and (trained != round_num or rows[PERSONAL] != _store(directory).checksum(NEWEST)):
        raise UserError(
            f"{os.path.join(directory, PERSONAL)} is not as it was after round {trained}, so that clients would have "
            "other models: if the run went on since then, let it end (the same command resumes it); else restore it."
        )


def stored_weights(directory: str, positions: Sequence[int], own_weights: Any = None) -> OwnWeights:
    """Of the clients of a run in this directory; the others are as of `OwnWeights`."""
    return OwnWeights(_store(directory), tuple(positions), own_weights)
