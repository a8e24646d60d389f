"""What encoders share: from records to model examples, one encoder a kind of task.

What is stored is what tokenization alone decides. Padding, attention masks, shifting and masking belong to the
preprocessing of a batch and are not stored.
"""

from __future__ import annotations

import abc
import collections
import hashlib
import json
from collections.abc import Iterator, Sequence

import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError
from tff_tx.datasets import splits
from tff_tx.datasets.sources import LeftOut
from tff_tx.datasets.surveys import label_lookup, unknown_label

# The label of a token that is no word's first piece; losses and metrics skip it.
IGNORED_LABEL = -100

NUMBER, NUMBERS = tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.int32)
"""Of a label, and of a sequence of token ids or labels."""


class Stream:
    """One pass of an encoder over records that come in chunks, several owners mixed.

    Attributes:
      left_out: Counts the records that cannot be encoded; None: the first of them is an error.
    """

    left_out: LeftOut | None = None

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self._rest: dict = {}  # what waits for more, by whose it is

    def add(self, owners: Sequence, rows: pd.DataFrame) -> Iterator[tuple]:
        """Yields (owner, example) pairs; `owners` has a pair of a split's code and a client's number per row."""
        for owner, examples in zip(owners, self._encoded(rows)):
            for example in examples:
                yield owner, example

    def _encoded(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        """The examples of each record, none of those that are left out."""
        if self.left_out is None:
            yield from self._encoder._encode_rows(rows)
            return
        for number in range(len(rows)):
            try:
                yield next(self._encoder._encode_rows(rows.iloc[number : number + 1]))
            except UserError as error:
                self.left_out.add(error)
                yield []

    def finish(self) -> Iterator[tuple]:
        """Yields the (owner, example) pairs that had to wait for the end."""
        return iter(())


class Encoder(abc.ABC):
    """Turns records into examples.

    Args:
      label_names: The labels' names; the index of a name is the label.
      settings: Whatever beside kind and label names the output depends on, as JSON.
      **features: The `tf.TensorSpec` of each feature of one example, not batched.

    Attributes:
      kind: The kind of task.
      columns: The record columns it reads.
      element_spec: The features as an OrderedDict.
      ordered: Whether a client's records mean something only together and in their order.
      observes: Whether records are to be given to `observe` before they are encoded.
      stream_class: Of a pass over records.
    """

    kind: str
    columns: tuple
    ordered: bool = False
    observes: bool = False
    stream_class = Stream

    def __init__(self, label_names: Sequence[str] = (), settings: Sequence = (), **features: tf.TensorSpec):
        self.label_names, self._settings = tuple(label_names), list(settings)
        self.element_spec = collections.OrderedDict(features)
        self._number_of = label_lookup(self.label_names)

    @property
    def fingerprint(self) -> str:
        """A string that changes whenever the output would."""
        parts = [self.kind, list(self.label_names), self._settings]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def stream(self) -> Stream:
        """Starts a pass over records that come in chunks."""
        return self.stream_class(self)

    def observe(self, owners: Sequence, rows: pd.DataFrame) -> None:  # noqa: B027 -- most have nothing to observe
        """Takes note of records before they are encoded; arguments as of `Stream.add`."""

    def notes(self) -> list[str]:
        """Lines on what it changed of the records so far, beyond encoding them."""
        return []

    def encode(self, rows: pd.DataFrame) -> list[dict]:
        """The examples of the records of one client.

        Raises:
          UserError: If a record cannot be encoded.
        """
        stream = self.stream()
        pairs = [*stream.add([(splits.TRAIN, 0)] * len(rows), rows), *stream.finish()]
        return [example for _, example in pairs]

    @abc.abstractmethod
    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        """The examples of each record by itself."""

    def label_number(self, name: str, row) -> int:
        """The number of a label: of its name, which must be known, but for its case; or the number itself."""
        number = self._number_of(name)
        if number is None:
            raise unknown_label(row.where, name, self.label_names)
        return number
