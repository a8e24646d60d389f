"""From the records of a series, in the order of time, to windows of past and future."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.datasets.encoders.encoder import Encoder, Stream


class ForecastingEncoder(Encoder):
    """Every window of a client's series, moved on by one step at a time; with several columns, of each.

    Examples: `past_values` float32 [context_length], `future_values` float32 [prediction_length], both in the unit of
    the data. A window lies within one split: with data.split=time no window for testing looks at a record that was
    trained on, as in T-GCN (Zhao et al. 2019).

    Args:
      context_length: Steps that are looked at.
      prediction_length: Steps that are to be forecast.
    """

    kind = "forecasting"
    columns = ("numbers",)
    ordered = True

    def __init__(self, context_length: int, prediction_length: int):
        self.context_length, self.prediction_length = context_length, prediction_length
        self.element_spec = collections.OrderedDict(
            past_values=tf.TensorSpec([context_length], tf.float32),
            future_values=tf.TensorSpec([prediction_length], tf.float32),
        )

    def _settings(self) -> list:
        return [self.context_length, self.prediction_length]

    def stream(self) -> Stream:
        """Starts a pass over records that come in chunks."""
        return _WindowStream(self)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[np.ndarray]:
        return iter(rows["numbers"])


class _WindowStream(Stream):
    """Keeps the last records of each owner, which the next windows begin with."""

    def __init__(self, encoder: ForecastingEncoder):
        super().__init__(encoder)
        self._rest: dict = {}

    def add(self, owners, rows):
        past = self._encoder.context_length
        length = past + self._encoder.prediction_length
        values: dict = {}
        for owner, numbers in zip(owners, self._encoder._encode_rows(rows)):
            values.setdefault(owner, []).append(numbers)
        for owner, new in values.items():
            series = np.asarray([*self._rest.get(owner, ()), *new], np.float32)
            if len(series) >= length:
                for window in np.lib.stride_tricks.sliding_window_view(series, length, axis=0).reshape(-1, length):
                    yield owner, {"past_values": window[:past], "future_values": window[past:]}
            self._rest[owner] = series[max(0, len(series) - length + 1) :].copy()
