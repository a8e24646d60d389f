"""Models that a client trains by itself: from the global model, or from what training began with, alone.

The first, fine-tuning, is the baseline of all personalization (FedAvg+ of Jiang et al. 2019,
https://arxiv.org/abs/1909.12488; Motley, Wu et al. 2022, https://arxiv.org/abs/2206.09262); the second is what a client
has without a federation. Both are for any run, at its evaluation: nothing of them leaves the client.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import models, runtime, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.run.client_loss import ClientLoss

_EVERY = 5
"""Of a held-out client, every fifth record is for fine-tuning, and the others for evaluation."""


class FineTuning:
    """Gives a client's weights: those given, after passes over its records; the `own_fn` of an `Evaluator`.

    With `losses` a client goes back to the weights after 0, 1, 2, 4, 8 ... or all steps, whichever have the least loss
    on other records of its own.

    Args:
      model: Of the weights.
      batches_fn: From a client id (string scalar tensor) to its batches for training (x, y), traceable.
      optimizer: Of the clients.
      begin_fn: From all weights and a client id to those that it begins with; None: the same.
      positions: Of the weights that are trained, among all; None: those that the model trains.
      losses: Of the records by which a client chooses its number of steps; None: all steps count.

    Attributes:
      steps: Number of steps by client, of those that have chosen.
    """

    def __init__(
        self,
        model: models.TransformerModel,
        batches_fn: Callable[[tf.Tensor], tf.data.Dataset],
        optimizer: tff.learning.optimizers.Optimizer,
        begin_fn: Callable[[list, str], list] | None = None,
        positions: Sequence[int] | None = None,
        losses: ClientLoss | None = None,
    ):
        trainable, others = model.initial_weights
        self._positions = tuple(range(len(trainable)) if positions is None else positions)
        specs = [tf.TensorSpec(w.shape, w.dtype) for w in (*trainable, *others)]

        def step(weights, state, batch):
            (x, y), trained = batch, tuple(weights[i] for i in self._positions)
            with tf.GradientTape() as tape:
                tape.watch(trained)
                parts = tuple(weights[: len(trainable)]), tuple(weights[len(trainable) :])
                loss = model.loss(model.predict_on_batch(parts, x, training=True), y)
            state, trained = optimizer.next(state, trained, tape.gradient(loss, trained))
            return trained, state

        self._reader, self._begin_fn, self._losses = runtime.ClientReader(batches_fn), begin_fn, losses
        self.steps: dict[str, int] = {}
        start = optimizer.initialize(tuple(specs[i] for i in self._positions))
        self._start = tf.nest.map_structure(tf.convert_to_tensor, start)
        state_specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, self._start)
        self._step = runtime.step_function(step, specs, state_specs, self._reader.element_spec, internal=True)

    def __call__(self, weights: list, client_id: str) -> list:
        weights = list(weights if self._begin_fn is None else self._begin_fn(weights, client_id))
        state, steps, kept = self._start, 0, _Least(self._losses, client_id)
        kept.see(weights, steps)
        for batch in self._reader(client_id):
            trained, state = self._step(weights, state, batch)
            steps += 1
            for i, weight in zip(self._positions, trained):
                weights[i] = weight
            if steps & (steps - 1) == 0:  # 1, 2, 4, 8 ...
                kept.see(weights, steps)
        if self._losses is None:
            return weights
        kept.see(weights, steps)
        self.steps[client_id] = kept.steps
        return kept.weights

    def choices(self) -> list[str]:
        """A line on what clients have chosen, if they do."""
        if not self.steps:
            return []
        found, none = list(self.steps.values()), sum(not steps for steps in self.steps.values())
        return [
            f"fine-tuned for {min(found)} to {max(found)} steps, half of the clients for at most "
            f"{statistics.median_low(found)}, as they choose; {none} of {len(found)} keep the model as it is"
        ]


@dataclasses.dataclass
class _Least:
    """The weights with the least loss that have been seen; those of fewer steps, where losses are equal."""

    losses: ClientLoss | None
    client_id: str
    steps: int = 0
    weights: list | None = None
    loss: float = math.inf

    def see(self, weights: list, steps: int) -> None:
        """Keeps a copy of weights that are better."""
        if self.losses is None:
            return
        (loss,) = self.losses([weights], self.client_id)
        if self.weights is None or loss < self.loss:
            self.weights, self.steps, self.loss = list(weights), steps, loss


@dataclasses.dataclass(frozen=True)
class Records:
    """Some records of some clients.

    Attributes:
      clients: A ClientData.
      for_training: Which: those for fine-tuning, or the others.
    """

    clients: Any
    for_training: bool

    @property
    def client_ids(self) -> list[str]:
        """Clients with records of both kinds.

        Raises:
          UserError: If there are none.
        """
        sizes = self.clients.sizes()
        found = [client for client in self.clients.client_ids if sizes[client] > 1]
        if not found:
            raise UserError(
                "no client of the split has two records, one to make its own model from and one to evaluate it on: "
                f"hold out others, or records of all clients with {setting('data.split')}=within_client."
            )
        return found

    def sizes(self) -> dict[str, int]:
        """Number of records of each client."""
        own = {client: -(-size // _EVERY) for client, size in self.clients.sizes().items()}
        return own if self.for_training else {c: size - own[c] for c, size in self.clients.sizes().items()}

    def serializable_dataset_fn(self, client_id: tf.Tensor) -> tf.data.Dataset:
        """The records of a client."""
        numbered = runtime.numbered(self.clients.serializable_dataset_fn(client_id))
        # Not `==`, which in the graph of a reader compares objects.
        some = numbered.filter(lambda number, _: tf.equal(tf.equal(number % _EVERY, 0), self.for_training))
        return some.map(lambda _, record: record)


def parts(task: tasks.FederatedTask, split: str) -> tuple[Any, Any]:
    """Of the clients of a split, by its name: the records to train on, and those to evaluate on.

    A client that was trained on, and of which the split holds out records, trains on the others.
    """
    clients = getattr(task, split)
    if split != "train" and set(clients.client_ids) <= set(task.train.client_ids):
        return task.train, clients
    return Records(clients, True), Records(clients, False)


def choosing(task: tasks.FederatedTask, split: str, records: Any) -> tuple[Any, Any]:
    """Of the records that clients of a split train on, by `parts`: those to train on, and those to choose by.

    The latter are the validation split where it has records of the same clients, or every fifth of them.
    """
    has_own = split == "test" and records is task.train and task.validation is not None
    if has_own and set(task.test.client_ids) <= set(task.validation.client_ids):
        return records, task.validation
    return Records(records, False), Records(records, True)


def batches_fn(
    task: tasks.FederatedTask, records: Any, seed: int, epochs: int
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """From a client id to its batches of all epochs, each in an order of its own; of 0 epochs there are none."""
    local = ClientConfig(batch_size=task.local.batch_size, epochs=max(1, epochs))
    rank = max(task.preprocessing.ranks, default=None)

    def batches(client_id):
        own = tf.stack([tf.constant(seed, tf.int64), tf.strings.to_hash_bucket_fast(client_id, 2**62)])
        found = task.preprocessing.train(lambda _: records.serializable_dataset_fn(client_id), own, local, rank)
        return found if epochs else found.take(0)

    return batches
