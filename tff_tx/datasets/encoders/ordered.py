"""Encoders of records in the order of time: histories of who chose what, and windows of series."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.datasets import splits
from tff_tx.datasets.encoders.encoder import NUMBERS, Encoder, Stream


class _HistoryStream(Stream):
    """Keeps the items of each client, whatever their split."""

    def __init__(self, encoder: NextItemEncoder):
        super().__init__(encoder)
        self._num_train: collections.Counter = collections.Counter()

    def add(self, owners, rows):
        for (code, client), item in zip(owners, self._encoder._encode_rows(rows)):
            items = self._rest.setdefault(client, [])
            items.append(item)
            if code == splits.TRAIN:
                self._num_train[client] += 1
            elif len(items) > 1:
                yield (code, client), self._encoder.example(items)

    def finish(self):
        for client, number in self._num_train.items():
            if number > 1:
                yield (splits.TRAIN, client), self._encoder.example(self._rest[client][:number])


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
    stream_class = _HistoryStream

    def __init__(self, label_names: Sequence[str], max_length: int):
        super().__init__(label_names, [max_length], item_ids=NUMBERS, seen=NUMBERS)
        self.max_length = max_length

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[int]:
        return (1 + self.label_number(row.label, row) for row in rows.itertuples())

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


class _WindowStream(Stream):
    """Keeps the last records of each owner, which windows begin with: their numbers, and where these were missing."""

    def __init__(self, encoder: ForecastingEncoder):
        super().__init__(encoder)
        self._last: dict = {}  # records of each client, whatever their split
        self._known: dict = {}  # of each client, the last number of each column

    def add(self, owners, rows):
        encoder = self._encoder
        past = encoder.context_length
        length = past + encoder.prediction_length
        values: dict = {}
        for owner, numbers in zip(owners, encoder._encode_rows(rows)):
            values.setdefault(owner, []).append(self._filled(owner[1], np.asarray(numbers, np.float64)))
        for owner, new in values.items():
            before = self._last.get(owner[1], ()) if encoder.standardizes else ()
            series = np.asarray([*self._rest.get(owner, before), *new], np.float32)
            if len(series) >= length:
                windows = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)
                for columns, missing in windows:
                    for number, window in enumerate(columns):
                        if not (missing[number, past:].any() or np.isnan(window[0])):
                            yield owner, encoder.example(window, owner[1], number)
            self._rest[owner] = series[max(0, len(series) - length + 1) :].copy()
            self._last[owner[1]] = series[-past:].copy()

    def _filled(self, client, numbers):
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, self._known.get(client, np.nan), numbers)
        self._known[client] = numbers
        return numbers, missing


class ForecastingEncoder(Encoder):
    """Every window of a client's series, moved on by one step at a time; with several columns, of each.

    Examples: `past_values` float32 [context_length], `future_values` float32 [prediction_length], both in the unit of
    the data. A window lies within one split: with data.split=time no window for testing looks at a record that was
    trained on, as in T-GCN (Zhao et al. 2019). A number that is missing (NaN) is the last one before; no window begins
    before the first number of its column, or has to forecast one that is missing.

    If it `standardizes`, windows of held-out records look back on those before, so that all of them are forecast, and
    examples have a `deviation`, float32 []: the standard deviation of the series over the client's training records,
    1 if that is 0; as Informer (Zhou et al. 2021) and PatchTST (Nie et al. 2023) evaluate.

    Args:
      context_length: Steps that are looked at.
      prediction_length: Steps that are to be forecast.
      standardizes: See above; records must have been observed first.
    """

    kind = "forecasting"
    columns = ("numbers",)
    ordered = True
    stream_class = _WindowStream

    def __init__(self, context_length: int, prediction_length: int, standardizes: bool = False):
        self.context_length, self.prediction_length = context_length, prediction_length
        self.standardizes = self.observes = standardizes
        self._sums: dict = {}
        past, future = (tf.TensorSpec([length], tf.float32) for length in (context_length, prediction_length))
        more = {"deviation": tf.TensorSpec([], tf.float32)} if standardizes else {}
        settings = [context_length, prediction_length, *(["standardizes"] if standardizes else [])]
        super().__init__((), settings, past_values=past, future_values=future, **more)

    def observe(self, owners: Sequence, rows: pd.DataFrame) -> None:
        """Adds up the training records of each client."""
        for (code, client), numbers in zip(owners, self._encode_rows(rows)):
            if code == splits.TRAIN:
                numbers = np.asarray(numbers, np.float64)
                sums = self._sums.setdefault(client, [np.full_like(numbers, np.nan), 0, 0.0, 0.0])
                # Of differences from the first number: squares of large numbers would swallow small deviations.
                sums[0] = np.where(np.isnan(sums[0]), numbers, sums[0])
                differences = np.nan_to_num(numbers - sums[0])
                sums[1] = sums[1] + ~np.isnan(numbers)
                sums[2], sums[3] = sums[2] + differences, sums[3] + np.square(differences)

    def example(self, window: np.ndarray, client: int, column: int) -> dict:
        """The example of a window of a column of a client."""
        found = {"past_values": window[: self.context_length], "future_values": window[self.context_length :]}
        if self.standardizes:
            number, total, squares = (sums[column] for sums in self._sums[client][1:])
            number = max(number, 1)
            variance = squares / number - (total / number) ** 2
            found["deviation"] = np.float32(np.sqrt(max(variance, 0.0)) or 1.0)
        return found

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[np.ndarray]:
        return iter(rows["numbers"])
