"""Personal weights of a run's clients: where they are, and a client's own model for evaluation and prediction."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tff_tx import cohorts, models, runtime, tasks
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.run.directory import StoredRun

PERSONAL = "personal"
"""The directory in a run's, and what `config.json` calls the names of these weights."""
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


def own_weights(config: RunConfig, task: tasks.FederatedTask) -> OwnWeights | None:
    """For the evaluation of a run while it is trained; None without personal weights."""
    if config.model.personal is None:
        return None
    return OwnWeights(_store(config.run.directory), task.model.positions(task.model.personal_names))


def stored_weights(run: StoredRun, model: models.TransformerModel) -> OwnWeights | None:
    """For the evaluation of a run's trained model, loaded; None without personal weights."""
    names = run.facts.get(PERSONAL)
    return OwnWeights(_store(run.directory), model.positions(names)) if names else None


def client_model(run: StoredRun, client_id: str) -> Any:
    """The trained Keras model of a client.

    Raises:
      UserError: If the run has no personal weights, or none of this client.
    """
    if not (names := run.facts.get(PERSONAL)):
        raise UserError(
            f"{setting('predict.client')}={client_id}: the clients of {run.directory} have no models of their own; "
            f"train with {setting('model.personal')}, or remove it."
        )
    own = _store(run.directory).read(client_id, _NEWEST)
    if own is None:
        raise UserError(
            f"{setting('predict.client')}={client_id}: {run.directory} has no weights of such a client; name one that "
            f"took part in training, as in {cohorts.LOG}."
        )
    model = models.from_pretrained(tasks.task_kind(run.config.task.kind).auto_class, run.model)
    variables = models.by_name(model)
    for name, value in zip(names, own):
        variables[name].assign(value)
    return model
