"""A `FederatedTask`: clients' data, a model and the preprocessing between them, checked to fit."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, models
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.bucketing import padding_share
from tff_tx.tasks.kind import TaskKind, task_kind
from tff_tx.tasks.preprocessing import SHUFFLE_BUFFER, Preprocessing

CLIENT = collections.OrderedDict(
    client_id=np.str_, seed=tff.TensorType(np.int64, [2]), order=tff.TensorType(np.int64, [2]), round_num=np.int64
)
"""TFF type of `client_arguments`."""

_MOST_SHUFFLED = 10_000


@dataclasses.dataclass(frozen=True)
class FederatedTask:
    """What is learned, from whose data.

    Attributes:
      kind: Its name in `tff_tx.config.registries.TASKS`.
      train: `tff.simulation.datasets.ClientData` of stored examples (see `tff_tx.datasets`).
      validation: The same for held-out clients or examples, or None.
      test: The same, or None.
      model: The functional model, made for `preprocessing.x_spec`.
      preprocessing: From examples to batches.
      local: How much a client computes a round.
      label_names: The classes in order; empty for language modeling.
      tokenizer: Of the text tasks, saved along with the model.
      processor: Of pictures or recordings, saved along with the model.
      eval_batch_size: Examples a batch in evaluation.
      notes: What became of the checkpoint, in lines: the order of its labels, new weights.

    Raises:
      UserError: At construction, if data and model differ; the message says in what.
    """

    kind: str
    train: Any
    model: models.TransformerModel
    preprocessing: Preprocessing
    local: ClientConfig
    validation: Any = None
    test: Any = None
    label_names: tuple[str, ...] = ()
    tokenizer: Any = None
    processor: Any = None
    eval_batch_size: int = 32
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        _check_specs_agree(self)
        self.preprocessing.check(self.local)
        if hasattr(self.model.keras_model, "config") and self.preprocessing.reads_examples:
            check_config(
                self.model.keras_model.config,
                self.definition,
                self.train.element_type_structure,
                self.label_names,
                self.tokenizer,
            )

    @property
    def definition(self) -> TaskKind:
        """What the task is."""
        return task_kind(self.kind)

    @property
    def metrics(self) -> tuple[models.Metric, ...]:
        """What is known of the metrics that evaluation gives."""
        return (*self.model.objective.metrics, *self.definition.score_metrics)

    def metrics_that_rank(self) -> dict[str, models.Metric]:
        """Metrics of each evaluation by which one model is better than another, by name: no counts, nor of texts."""
        metrics = self.model.objective.metrics
        return {metric.name: metric for metric in metrics if metric.higher_is_better is not None}

    @property
    def train_batches(self) -> tff.Computation:
        """(`CLIENT` -> <x,y>*): a client's batches of a round, read where it runs."""

        @tff.tensorflow.computation(CLIENT)
        def batches(client):
            return self.client_batches(client)

        return batches

    @tf.autograph.experimental.do_not_convert
    def client_batches(self, client: Any) -> tf.data.Dataset:
        """`train_batches`, traceable; `client` is an `OrderedDict` of tensors of type `CLIENT`."""

        def examples(epoch):
            size = self.local.examples_per_pass
            if size is None:
                return self.train.serializable_dataset_fn(client["client_id"])
            # Of few examples a round's passes are over all, each in an order of its own.
            ordered = size if self.local.steps is None else min(size, SHUFFLE_BUFFER)
            number = (client["round_num"] - 1) * self.local.num_passes + epoch
            draw = datasets.Draw(number, size, ordered, client["order"])
            return self.train.serializable_dataset_fn(client["client_id"], draw)

        rank = self.preprocessing.rank_of(client["client_id"])
        return self.preprocessing.train(examples, client["seed"], self.local, rank)

    def costs(self) -> dict[str, float]:
        """Cost of each training client in a round: its examples times their mean length, in stored bytes."""
        length = self.train.example_bytes()
        return {c: self.local.num_examples(n) * length[c] for c, n in self.train.sizes().items()}

    def padding_share(self, clients: Sequence[Any]) -> float | None:
        """Share of padding among the tokens of clients' batches of a round, from 0 to 1; None without tokens.

        Args:
          clients: Of `client_arguments`.
        """
        if "attention_mask" not in self.preprocessing.x_spec:
            return None
        return padding_share([self.client_batches(client) for client in clients])

    def eval_batches_fn(self, clients: Any, seed: int = 0):
        """A function from a client id to its batches for evaluation, the same every time.

        Args:
          clients: A ClientData such as `test`.
          seed: Of the masks of masked language modeling.
        """

        @tf.autograph.experimental.do_not_convert
        def batches(client_id):
            # Masks differ from client to client, else equal texts would have equal words masked.
            key = tf.strings.to_hash_bucket_fast(client_id, 2**62)
            examples = clients.serializable_dataset_fn(client_id)
            return self.preprocessing.evaluate(
                examples, tf.stack([tf.constant(seed, tf.int64), key]), self.eval_batch_size
            )

        return batches

    def public_batches(self, clients: Any, seed: int, round_num: int, batch_size: int) -> tf.data.Dataset:
        """Batches (x, y) of all examples of `clients` together, in another order each round.

        Args:
          clients: A ClientData such as `validation`, whose examples are the server's.
          seed: The run's seed.
          round_num: The round.
          batch_size: Examples a batch; the last may be smaller.
        """
        ids = tf.data.Dataset.from_tensor_slices(list(clients.client_ids))
        examples = ids.flat_map(clients.serializable_dataset_fn)
        local, rank = ClientConfig(batch_size=batch_size), max(self.preprocessing.ranks, default=None)
        shuffled, key = min(sum(clients.sizes().values()), _MOST_SHUFFLED), _seed("public data", seed, round_num)
        return self.preprocessing.train(lambda _: examples, key, local, rank, shuffled)

    def process(self, learning_process: tff.learning.templates.LearningProcess):
        """The process with clients named by `client_arguments` instead of given as datasets."""
        return tff.simulation.compose_dataset_computation_with_learning_process(self.train_batches, learning_process)


def client_arguments(client_ids: Sequence[str], seed: int, round_num: int) -> list:
    """The arguments of each client of a round: its name, the seeds of all that it draws, and the round.

    Args:
      client_ids: The cohort.
      seed: The run's seed.
      round_num: The round, from 1; a client gets another `seed` in other rounds, but the same `order`, which says how
        its examples are divided among rounds.

    Returns:
      A list of `OrderedDict` of type `CLIENT`; client ids are bytes, as TFF's runtime takes no strings beyond ASCII.
    """
    number = np.int64(round_num)
    return [
        collections.OrderedDict(
            client_id=c.encode(), seed=_seed(c, seed, round_num), order=_seed(c, seed, "order"), round_num=number
        )
        for c in client_ids
    ]


def _seed(client_id, seed, occasion):
    digest = hashlib.sha256(f"{seed}/{occasion}/{client_id}".encode()).digest()
    return np.frombuffer(digest[:16], np.int64)


def _check_specs_agree(task):
    x_spec, _ = task.model.input_spec
    for name, clients in (("train", task.train), ("validation", task.validation), ("test", task.test)):
        if clients is None:
            continue
        spec = clients.element_type_structure
        batches = task.preprocessing.x_spec
        made = task.preprocessing.x_spec_of(spec) if spec else batches
        if made != batches:
            raise UserError(
                f"the {name} data have {_described(made)} where the preprocessing makes {_described(batches)}: "
                "encode all splits alike."
            )
    if dict(x_spec) != dict(task.preprocessing.x_spec):
        raise UserError(
            f"the model takes {_described(x_spec)}, but the data come as {_described(task.preprocessing.x_spec)}: "
            "build the model with functional_model(..., x_spec=preprocessing.x_spec)."
        )


def check_config(config, definition: TaskKind, element_spec, label_names: Sequence[str], tokenizer) -> None:
    """Checks that a Hugging Face model takes the data.

    Args:
      config: The model's configuration.
      definition: The task.
      element_spec: Spec of a stored example.
      label_names: The classes in order; empty for language modeling.
      tokenizer: Of the text tasks.

    Raises:
      UserError: If they differ; the message says in what.
    """
    if label_names and config.num_labels != len(label_names):
        raise UserError(
            f"the model has {config.num_labels} classes, the data {len(label_names)} "
            f"({', '.join(label_names[:10])}): set num_labels={len(label_names)}."
        )
    if tokenizer is not None and len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer makes ids up to {len(tokenizer) - 1}, the model has a vocabulary of "
            f"{config.vocab_size}: use the model's own tokenizer, or set vocab_size in "
            f"{setting('model.config')}, which keeps the rows of a checkpoint."
        )
    definition.check_config(config, element_spec)


def _described(spec):
    return ", ".join(f"{name} {s.dtype.name}{s.shape}" for name, s in spec.items())
