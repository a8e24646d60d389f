"""Predictions for records of files: forecasts of series, recommendations, classes of rows."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx import datasets
from tff_tx.core.errors import UserError, setting
from tff_tx.inference.classes import most_likely
from tff_tx.inference.predictor import Predictor
from tff_tx.tasks.kinds.tabular_classification import columns_of

_CLIENTS = "client"


class RecordPredictor(Predictor):
    """Predicts from records, given as chunks with the columns of `tff_tx.datasets.read_files`."""

    columns: tuple[str, ...] = ()

    def read(self, *, texts=(), question=None, files=()):
        """Records of files with the columns of the data of the run."""
        if texts or question or not files:
            raise UserError(
                f"the model takes records: set {setting('predict.data')} to files with the columns of the run's data."
            )
        return self.records(self.files_spec(files), *self.columns)


class _InTime(RecordPredictor):
    """Predicts from the records of each client, in the order of time."""

    def read(self, **inputs):
        """Records of files, which are rejected if they are out of order."""
        return self._in_order(super().read(**inputs))

    def _in_order(self, chunks):
        order = datasets.Order()
        for chunk in chunks:
            if self.data.time_column is None:
                order.check(chunk.get(_CLIENTS, itertools.repeat(None)), zip(chunk["where"], chunk["row"]))
            yield chunk


class Forecaster(_InTime):
    """The values to come of each column of each client's series."""

    columns = ("numbers", _CLIENTS, "row")

    def predict(self, inputs):
        return super().predict(self._series(inputs))

    def _series(self, chunks):
        length = self.model.config.context_length
        for client, rows in _by_client(chunks):
            values = pd.DataFrame(rows["numbers"].tolist()).ffill().to_numpy()
            if len(values) < length:
                raise UserError(
                    f"{rows['where'].iloc[-1]}: the series {client} has {len(values)} records, and the model looks at "
                    f"{length}; give more."
                )
            for name, past in zip(self.data.number_names, values[-length:].T):
                if np.isnan(past[0]):
                    raise UserError(
                        f"{rows['where'].iloc[-length]}: the series {client} has no number in the column {name!r} here "
                        "or before; fill it in."
                    )
                yield {_CLIENTS: client, "column": name}, past

    def predict_batch(self, inputs):
        series, pasts = zip(*inputs)
        forecasts = self.model(past_values=tf.constant(np.stack(pasts), tf.float32), training=False).numpy()
        for name, forecast in zip(series, forecasts):
            yield {**name, "forecast": [round(float(value), 4) for value in forecast]}


class Recommender(_InTime):
    """For each client the items of the highest scores that its history does not have."""

    columns = ("label", _CLIENTS, "row")

    def predict(self, inputs):
        return self.predict_batch(list(_by_client(inputs)))

    def predict_batch(self, inputs):
        config = self.model.config
        names = [config.id2label[i] for i in range(config.num_labels)]
        encoder = datasets.NextItemEncoder(names, config.max_position_embeddings)
        everything = tf.range(1, len(names) + 1)[tf.newaxis, tf.newaxis]
        for client, rows in inputs:
            history = encoder.numbers(rows)
            last = tf.constant([history[-config.max_position_embeddings :]], tf.int32)
            scores = self.model(item_ids=last, candidates=everything, training=False).numpy()[0, 0]
            scores[np.asarray(history) - 1] = -np.inf
            best = np.argsort(-scores, kind="stable")[: self.options.top_k]
            items = {names[i]: round(float(scores[i]), 4) for i in best if np.isfinite(scores[i])}
            yield {_CLIENTS: client, "items": items}


class RowClassifier(RecordPredictor):
    """The most likely classes of each row."""

    @functools.cached_property
    def _encoder(self):
        return datasets.TabularClassificationEncoder((), columns_of(self.model.config))

    @property
    def columns(self):
        """What the model reads of a row."""
        return (*(name for name in self._encoder.columns if name != "label"), "row")

    def files_spec(self, files):
        found = columns_of(self.model.config)
        spec = super().files_spec(files)
        return dataclasses.replace(spec, **found.reading)

    def predict(self, inputs):
        for chunk in inputs:
            yield from super().predict(self.table_rows(self._encoder.inputs(chunk), chunk))

    def predict_batch(self, inputs):
        batch = {name: tf.constant(np.stack([row[name] for row in inputs])) for name in inputs[0]}
        for logits in self.model(batch, training=False):
            yield most_likely(logits, self.model.config, self.options.top_k)


def _by_client(chunks: Iterable[pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The records of each client in their order; all of them together where they carry no client."""
    rows = pd.concat(list(chunks), ignore_index=True)
    if _CLIENTS not in rows:
        rows[_CLIENTS] = "all"
    yield from rows.groupby(_CLIENTS, sort=False)
