"""Predictions of a saved model for records of files: forecasts of series, recommendations, classes of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError

_CLIENTS = "client"


def predict_records(
    kind: str, directory: str, data: datasets.DataSpec, batch_size: int = 32, top_k: int = 3
) -> list[dict]:
    """Predicts for the records of files.

    Args:
      kind: A key of `PREDICTIONS`.
      directory: A model directory.
      data: Which files, and the names of their columns, those that the model was trained on.
      batch_size: Inputs a batch.
      top_k: Items or classes told of each input.

    Returns:
      JSON-ready predictions: of "forecasting" one a series, the client's and column's, with the values to come; of
      "next_item" one a client, with the items of the highest scores that its history does not have; of
      "tabular_classification" one a row, with the most likely classes.

    Raises:
      UserError: If the files cannot be read or have too few records.
    """
    model = models.from_pretrained(kind, directory)
    return list(PREDICTIONS[kind](model, data, batch_size, top_k))


def _forecasting(model, data, batch_size, top_k) -> Iterator[dict]:
    del top_k
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


def _next_item(model, data, batch_size, top_k) -> Iterator[dict]:
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    encoder = datasets.NextItemEncoder(names, model.config.max_position_embeddings)
    everything = tf.range(1, len(names) + 1)[tf.newaxis, tf.newaxis]
    del batch_size  # everything is scored for each history
    for client, rows in _by_client(data, "label"):
        history = encoder.numbers(rows)
        last = tf.constant([history[-model.config.max_position_embeddings :]], tf.int32)
        scores = model(item_ids=last, candidates=everything, training=False).numpy()[0, 0]
        scores[np.asarray(history) - 1] = -np.inf
        best = np.argsort(-scores, kind="stable")[:top_k]
        yield {
            _CLIENTS: client,
            "items": {names[i]: round(float(scores[i]), 4) for i in best if np.isfinite(scores[i])},
        }


def _tabular_classification(model, data, batch_size, top_k) -> Iterator[dict]:
    config = model.config
    columns = datasets.Features(config.numeric_features, config.categorical_features, config.categories)
    encoder = datasets.TabularClassificationEncoder((), columns)
    data = dataclasses.replace(
        data, numeric_columns=tuple(columns.numeric), categorical_columns=tuple(columns.categorical)
    )
    for chunk in datasets.read_records(data, *(name for name in encoder.columns if name != "label")):
        inputs = encoder.inputs(chunk)
        for start in range(0, len(inputs), batch_size):
            some = inputs[start : start + batch_size]
            batch = {name: tf.constant(np.stack([row[name] for row in some])) for name in some[0]}
            for probabilities in tf.nn.softmax(model(batch, training=False)).numpy():
                best = np.argsort(-probabilities)[:top_k]
                yield {
                    "label": config.id2label[int(best[0])],
                    "probabilities": {config.id2label[int(i)]: round(float(probabilities[i]), 4) for i in best},
                }


def _by_client(data, column) -> Iterator[tuple[str, pd.DataFrame]]:
    """The records of each client in their order; all of them together where they carry no client."""
    chunks = datasets.read_records(data, column, _CLIENTS)
    rows = pd.concat(list(chunks), ignore_index=True)
    if _CLIENTS not in rows:
        rows[_CLIENTS] = "all"
    yield from rows.groupby(_CLIENTS, sort=False)


PREDICTIONS = {
    "forecasting": _forecasting,
    "next_item": _next_item,
    "tabular_classification": _tabular_classification,
}
"""The tasks, and how their models predict: (model, data, batch size, top_k) -> predictions."""
