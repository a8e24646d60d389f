"""Canaries: clients with a random text, which show whether the model memorizes its training data.

Exposure is the number of bits that the model reveals of a canary: by how much it ranks above texts drawn in the same
way that were not trained on (Carlini et al. 2019, "The secret sharer", https://arxiv.org/abs/1802.08232). TensorFlow
Privacy's `secret_sharer` is not in its wheel (0.9.0 leaves out the package `privacy_tests`).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.datasets.store import build_serializer

FILE = "canaries.json"
PREFIX = "canary-"


@dataclasses.dataclass(frozen=True)
class Canary:
    """A client with a random text.

    Attributes:
      client_id: Its name.
      tokens: The text, token ids.
      repetitions: Copies of the text that the client holds.
      is_in: Whether it is a training client: by a fair coin, as the one-run audit needs.
    """

    client_id: str
    tokens: tuple[int, ...]
    repetitions: int
    is_in: bool


def make_canaries(
    count: int, repetitions: Sequence[int], length: int, token_ids: Sequence[int], seed: int
) -> list[Canary]:
    """Draws canaries.

    Args:
      count: Number of canaries; about half of them are in.
      repetitions: Copies of its text that a client holds, in turn.
      length: Tokens of a text.
      token_ids: Ids of the tokens to draw from, uniformly.
      seed: Seed of texts and coins.
    """
    rng = np.random.default_rng([seed, 0])
    texts = rng.choice(np.asarray(token_ids), [count, length])
    coins = rng.random(count) < 0.5
    return [
        Canary(f"{PREFIX}{i:05d}", tuple(text.tolist()), int(repetitions[i % len(repetitions)]), bool(coin))
        for i, (text, coin) in enumerate(zip(texts, coins))
    ]


def make_references(count: int, length: int, token_ids: Sequence[int], seed: int) -> list[tuple[int, ...]]:
    """Texts drawn as those of `make_canaries`, which no client has."""
    rng = np.random.default_rng([seed, 1])
    return [tuple(text) for text in rng.choice(np.asarray(token_ids), [count, length]).tolist()]


def canary_examples(texts: Sequence[Sequence[int]]) -> tf.data.Dataset:
    """Texts of equal length as stored examples of a language-modeling task."""
    ids = np.asarray(texts, np.int32)
    return tf.data.Dataset.from_tensor_slices(collections.OrderedDict(input_ids=ids)).map(_of_any_length)


def _of_any_length(example):
    return collections.OrderedDict(input_ids=tf.ensure_shape(example["input_ids"], [None]))


class WithCanaries(tff.simulation.datasets.ClientData):
    """ClientData that includes the canaries that are in.

    Args:
      clients: ClientData of language-modeling examples as `tff_tx.datasets` stores them, empty for unknown ids.
      canaries: The canaries.
    """

    def __init__(self, clients: Any, canaries: Sequence[Canary]):
        self._clients = clients
        self._present = [canary for canary in canaries if canary.is_in]

    @property
    def fingerprint(self) -> str:
        """As of the clients."""
        return self._clients.fingerprint

    @property
    def client_ids(self) -> list[str]:
        """The clients' ids, then the canaries'."""
        return [*self._clients.client_ids, *(canary.client_id for canary in self._present)]

    @property
    def element_type_structure(self) -> collections.OrderedDict:
        """As of the clients."""
        return self._clients.element_type_structure

    def sizes(self) -> dict[str, int]:
        """Client id -> number of examples, in the order of `client_ids`."""
        return {**self._clients.sizes(), **{c.client_id: c.repetitions for c in self._present}}

    def example_bytes(self) -> dict[str, float]:
        """Client id -> mean bytes of a stored example."""
        serialize = build_serializer(self.element_type_structure)
        canaries = {c.client_id: float(len(serialize({"input_ids": c.tokens}))) for c in self._present}
        return {**self._clients.example_bytes(), **canaries}

    @property
    def serializable_dataset_fn(self) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Client id, a string or a string tensor, or with a `Draw` -> its dataset; can be traced inside a graph."""
        return functools.partial(_dataset, self._clients.serializable_dataset_fn, self._present)

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
        """The examples of one client.

        Raises:
          ValueError: If there is no such client.
        """
        if client_id not in self.sizes():
            raise ValueError(f"{client_id!r} is not a client.")
        return self.serializable_dataset_fn(client_id)


def _dataset(clients_fn, present, client_id, draw=None):
    real = clients_fn(client_id, draw)
    if not present:
        return real
    mine = tf.equal(client_id, tf.constant([canary.client_id for canary in present]))
    repetitions = tf.constant([canary.repetitions for canary in present], tf.int64)
    text = tf.constant([canary.tokens for canary in present], tf.int32)[tf.argmax(mine)]
    canary = tf.data.Dataset.from_tensors(collections.OrderedDict(input_ids=text)).map(_of_any_length)
    count = tf.reduce_sum(tf.where(mine, repetitions, 0))
    return real.concatenate(canary.repeat(count if draw is None else tf.minimum(count, draw.size)))


def write_canaries(run_dir: str, canaries: Sequence[Canary], token_ids: Sequence[int], seed: int) -> None:
    """Records the canaries of a run, and what references are drawn from."""
    value = {"seed": seed, "token_ids": list(map(int, token_ids)), "canaries": list(canaries)}
    files.write_json(os.path.join(run_dir, FILE), value)


def read_canaries(run_dir: str) -> tuple[list[Canary], list[int], int]:
    """The canaries of a run, the token ids they were drawn from, and their seed; no canaries if it has none.

    Raises:
      UserError: If the record is damaged.
    """
    path = os.path.join(run_dir, FILE)
    if not os.path.exists(path):
        return [], [], 0
    try:
        value = files.parse_json(path)
        canaries = [Canary(**{**c, "tokens": tuple(c["tokens"])}) for c in value["canaries"]]
        return canaries, value["token_ids"], value["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or run the training anew.") from error


def exposure_by_rank(losses: Sequence[float], reference_losses: Sequence[float]) -> np.ndarray:
    """log2 |R| - log2 rank, bits: 0 for the least likely of all, log2 |R| for a canary above all references.

    Definition 5, with the references, texts that were not trained on, as the space of texts: a canary's rank is one
    more than the number of references with a smaller loss (as many as with the same loss count half). From losses [n]
    to float [n].
    """
    losses, references = np.asarray(losses, float), np.sort(np.asarray(reference_losses, float))
    below = np.searchsorted(references, losses, side="left")
    ties = np.searchsorted(references, losses, side="right") - below
    ranks = np.minimum(1 + below + ties / 2, len(references))
    return np.log2(len(references)) - np.log2(ranks)
