"""Models that a client trains by itself: from the global model, or from what training began with, alone.

The first, fine-tuning, is the baseline of all personalization (FedAvg+ of Jiang et al. 2019,
https://arxiv.org/abs/1909.12488; Motley, Wu et al. 2022, https://arxiv.org/abs/2206.09262); the second is what a client
has without a federation. Both are for any run, at its evaluation: nothing of them leaves the client.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import models, runtime, tasks
from tff_tx.config.algorithm import ClientConfig

_EVERY = 5
"""Of a held-out client, every fifth record is for fine-tuning, and the others for evaluation."""


class FineTuning:
    """Gives a client's weights: those given, after passes over its records; the `own_fn` of an `Evaluator`.

    Args:
      model: Its trainable weights are trained.
      batches_fn: From a client id (string scalar tensor) to its batches for training (x, y), traceable.
      optimizer: Of the clients.
      begin_fn: From all weights and a client id to those that it begins with; None: the same.
    """

    def __init__(
        self,
        model: models.TransformerModel,
        batches_fn: Callable[[tf.Tensor], tf.data.Dataset],
        optimizer: tff.learning.optimizers.Optimizer,
        begin_fn: Callable[[list, str], list] | None = None,
    ):
        trainable, others = model.initial_weights
        specs = tuple(tuple(tf.TensorSpec(w.shape, w.dtype) for w in part) for part in (trainable, others))

        def step(weights, state, batch):
            x, y = batch
            with tf.GradientTape() as tape:
                tape.watch(weights[0])
                loss = model.loss(model.predict_on_batch(weights, x, training=True), y)
            state, trained = optimizer.next(state, weights[0], tape.gradient(loss, weights[0]))
            return trained, state

        self._reader, self._begin_fn, self._num_trainable = runtime.ClientReader(batches_fn), begin_fn, len(trainable)
        self._start = tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs[0]))
        state_specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, self._start)
        self._step = runtime.step_function(step, specs, state_specs, self._reader.element_spec, internal=True)

    def __call__(self, weights: list, client_id: str) -> list:
        weights = weights if self._begin_fn is None else self._begin_fn(weights, client_id)
        trained, others = tuple(weights[: self._num_trainable]), tuple(weights[self._num_trainable :])
        state = self._start
        for batch in self._reader(client_id):
            trained, state = self._step((trained, others), state, batch)
        return [*trained, *others]


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
        """Clients with records of both kinds."""
        sizes = self.clients.sizes()
        return [client for client in self.clients.client_ids if sizes[client] > 1]

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


def batches_fn(
    task: tasks.FederatedTask, records: Any, seed: int, epochs: int
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """From a client id to its batches of all epochs, each in an order of its own."""
    local = ClientConfig(batch_size=task.local.batch_size, epochs=epochs)
    rank = max(task.preprocessing.ranks, default=None)

    def batches(client_id):
        own = tf.stack([tf.constant(seed, tf.int64), tf.strings.to_hash_bucket_fast(client_id, 2**62)])
        return task.preprocessing.train(lambda _: records.serializable_dataset_fn(client_id), own, local, rank)

    return batches


def share_hurt(before: pd.DataFrame, after: pd.DataFrame, metrics: Sequence[models.Metric]) -> tuple[str, float]:
    """(the metric by which it is judged, the share of clients whose own model is worse than the one before).

    It is the F1 of entities, else the first of which more is better, else the loss.
    """
    higher = [metric.name for metric in metrics if metric.higher_is_better and metric.name in after]
    name = next((name for name in higher if name == "f1"), (higher or ["loss"])[0])
    gain = after[name] - before[name]
    return name, float(((gain if higher else -gain) < 0).mean())
