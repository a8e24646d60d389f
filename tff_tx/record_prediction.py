"""Predictions of a saved model for records of files: forecasts of series."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.errors import UserError

_CLIENTS = "client"


def predict_records(kind: str, directory: str, data: datasets.DataSpec, batch_size: int = 32) -> list[dict]:
    """Predicts for the records of files.

    Args:
      kind: A key of `PREDICTIONS`.
      directory: A model directory.
      data: Which files, and the names of their columns, those that the model was trained on.
      batch_size: Inputs a batch.

    Returns:
      JSON-ready predictions: of "forecasting" one a series, the client's and column's, with the values to come.

    Raises:
      UserError: If the files cannot be read or have too few records.
    """
    model = models.from_pretrained(kind, directory)
    return list(PREDICTIONS[kind](model, data, batch_size))


def _forecasting(model, data, batch_size) -> Iterator[dict]:
    length = model.config.context_length
    series = []
    for client, rows in _by_client(data, "numbers"):
        values = np.stack(rows["numbers"].tolist())
        if len(values) < length:
            raise UserError(
                f"{rows['where'].iloc[-1]}: the series {client} has {len(values)} records, and the model looks at "
                f"{length}; give more."
            )
        names = zip(data.numeric_columns, values[-length:].T)
        series += [({_CLIENTS: client, "column": name}, past) for name, past in names]
    for start in range(0, len(series), batch_size):
        told, pasts = zip(*series[start : start + batch_size])
        forecasts = model(past_values=tf.constant(np.stack(pasts), tf.float32), training=False).numpy()
        for who, forecast in zip(told, forecasts):
            yield {**who, "forecast": [round(float(value), 4) for value in forecast]}


def _by_client(data, column) -> Iterator[tuple[str, pd.DataFrame]]:
    """The records of each client in their order; all of them together where they carry no client."""
    chunks = datasets.read_records(data, column, _CLIENTS)
    rows = pd.concat(list(chunks), ignore_index=True)
    if _CLIENTS not in rows:
        rows[_CLIENTS] = "all"
    yield from rows.groupby(_CLIENTS, sort=False)


PREDICTIONS = {
    "forecasting": _forecasting,
}
"""The tasks, and how their models predict: (model, data, batch size) -> predictions."""
