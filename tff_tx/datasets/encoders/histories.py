"""From records of who chose what, in the order of time, to histories and the item that followed."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.datasets import splits
from tff_tx.datasets.encoders.encoder import Encoder, LabelIndex, Stream


class NextItemEncoder(Encoder):
    """One example a client for training: its history; and one for each record that is held out: all up to it.

    With the split "time" and fractions of 1 for validation and test that is leaving one out (Kang and McAuley 2018,
    section IV.A): the last item of a client is for testing, the one before for validation, and both are asked for
    with all that came before them. A client with too few records for an example has none.

    Examples: `item_ids` int32 [None], the last `max_length` items and the one that followed, numbered from 1; `seen`
    int32 [None], every item of the history once, ascending.

    Args:
      label_names: The items; the number of an item is 1 more than its place here.
      max_length: The longest history, in items.
    """

    kind = "next_item"
    columns = ("label",)
    ordered = True
    may_skip = True

    def __init__(self, label_names: Sequence[str], max_length: int):
        self.label_names = tuple(label_names)
        self.max_length = max_length
        self.element_spec = collections.OrderedDict(
            item_ids=tf.TensorSpec([None], tf.int32), seen=tf.TensorSpec([None], tf.int32)
        )

    def _settings(self) -> list:
        return [self.max_length]

    def stream(self) -> Stream:
        """Starts a pass over records that come in chunks."""
        return _HistoryStream(self)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[int]:
        label_of = LabelIndex(self.label_names)
        return (1 + label_of(row.label, row) for row in rows.itertuples())

    def numbers(self, rows: pd.DataFrame) -> list[int]:
        """The items of records.

        Raises:
          UserError: If one is unknown.
        """
        return list(self._encode_rows(rows))

    def example(self, items: Sequence[int]) -> dict:
        """The example of a history and the item that followed it."""
        return {
            "item_ids": np.asarray(items[-self.max_length - 1 :], np.int32),
            "seen": np.unique(np.asarray(items, np.int32)),
        }


class _HistoryStream(Stream):
    """Keeps the items of each client, whatever their split."""

    def __init__(self, encoder: NextItemEncoder):
        super().__init__(encoder)
        self._items: dict = {}
        self._num_train: collections.Counter = collections.Counter()

    def add(self, owners, rows):
        for (code, client), item in zip(owners, self._encoder._encode_rows(rows)):
            items = self._items.setdefault(client, [])
            items.append(item)
            if code == splits.TRAIN:
                self._num_train[client] += 1
            elif len(items) > 1:
                yield (code, client), self._encoder.example(items)

    def finish(self):
        for client, number in self._num_train.items():
            if number > 1:
                yield (splits.TRAIN, client), self._encoder.example(self._items[client][:number])
