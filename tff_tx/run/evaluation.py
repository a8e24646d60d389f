"""A model on held-out clients: the figures over all their data, and how they are spread over the clients."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff
from tqdm.auto import tqdm

from tff_tx import models, runtime
from tff_tx.run import baseline

MOST_KNOWN = 1000
"""Clients whose sums are kept."""


class Evaluator:
    """Evaluates weights of one model on clients.

    The last weights are not evaluated twice on the same client, such as after the last round and at the end.

    Args:
      model: A `tff.learning.models.FunctionalModel`.
      batches_fn: From a client id (string scalar tensor) to its batches (x, y), traceable.
      threads: Clients evaluated at the same time.
      counts_labels: Whether labels are counted in passing, for `label_counts`.
      own_fn: From all weights, the trainable ones first, and a client id to the weights of this client; None: all have
        the same. If its attribute `is_pure` is False, they may be others each time.
      classes: Of models whose predictions are logits of so many classes, whose confusion is counted; 0: it is not.
      prepare_fn: Called before clients are read with their ids and a function that shows progress (done, total).
    """

    def __init__(
        self,
        model: tff.learning.models.FunctionalModel,
        batches_fn: Callable[[tf.Tensor], tf.data.Dataset],
        threads: int = 4,
        counts_labels: bool = False,
        own_fn: Callable[[list, str], list] | None = None,
        classes: int = 0,
        prepare_fn: Callable[[Sequence[str], Callable[[int, int], None]], None] = lambda client_ids, on_progress: None,
    ):
        self._model, self._threads, self._batches_fn, self._own_fn = model, threads, batches_fn, own_fn
        self._evaluated: dict[bool, tuple[str, dict]] = {}
        self._labels: dict[str, tuple] = {}
        self._counts_labels, self.classes, self._prepare_fn = counts_labels, classes, prepare_fn

    @functools.cached_property
    def _graphs(self):
        """Made when first used: what reads clients, the first state, and the step."""
        reader = runtime.ClientReader(self._batches_fn)

        def step(weights, state, batch):
            (x, y), (sums, confusion) = batch, state
            output = self._model.predict_on_batch(weights, x, training=False)
            loss = self._model.loss(output, y)
            counted = confusion + self._pairs(output, y) if self.classes else confusion
            output = tff.learning.models.BatchOutput(loss, output, tf.shape(output)[0])
            return self._model.update_metrics_state(sums, labels=y, batch_output=output), counted

        zero = self._model.initialize_metrics_state(), tf.zeros([self.classes, self.classes], tf.int64)
        arguments = (self._model.initial_weights, zero)
        specs = tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), arguments)
        return reader, zero, runtime.step_function(step, *specs, reader.element_spec, internal=True)

    def metrics(self, weights: Any, client_ids: Sequence[str], show_progress: bool = False) -> collections.OrderedDict:
        """The metrics of `ModelWeights` over the pooled data of at least one client, as floats and ints by name.

        A bar on standard error shows the progress of what takes more than two seconds.
        """
        return self._finish(functools.reduce(_add, self._client_sums(weights, client_ids, show_progress)))

    def evaluate(
        self,
        weights: Any,
        client_ids: Sequence[str],
        show_progress: bool = False,
        own: bool = True,
        outputs: dict[str, list] | None = None,
    ) -> tuple[collections.OrderedDict, pd.DataFrame]:
        """What `metrics` gives, and the metrics of each client: a row a client, indexed by its id.

        Args:
          weights: `ModelWeights`.
          client_ids: At least one client.
          show_progress: As of `metrics`.
          own: Whether clients have the weights of `own_fn`, if there is one, rather than those given.
          outputs: If not None, gets (predictions, labels) of each client's batches, by client.
        """
        sums = list(self._client_sums(weights, client_ids, show_progress, own, outputs))
        return self._finish(functools.reduce(_add, sums)), self._by_client(sums, client_ids)

    @functools.cached_property
    def _predict(self):
        return tf.function(
            lambda parts, x: self._model.predict_on_batch(parts, x, training=False),
            autograph=False,
            reduce_retracing=True,
        )

    def sums(self, weights: Any, client_ids: Sequence[str]) -> Any:
        """The sums that `metrics` are made of."""
        return functools.reduce(_add, self._client_sums(weights, client_ids, False))[0]

    def details(self, weights: Any, client_ids: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
        """The metrics of each client, a row a client, and over all of them how classes are confused.

        The latter is int64 [classes, classes]: how often a class, by row, was taken for another, by column.
        """
        sums = list(self._client_sums(weights, client_ids, False))
        return self._by_client(sums, client_ids), functools.reduce(_add, sums)[1].numpy()

    def _by_client(self, sums, client_ids):
        return pd.DataFrame(map(self._finish, sums), index=pd.Index(client_ids, name="client"))

    def _pairs(self, logits, labels):
        """How a batch's classes are confused; labels below 0 do not count."""
        true, predicted = tf.reshape(labels, [-1]), tf.reshape(tf.argmax(logits, -1), [-1])
        counts = tf.cast(true >= 0, tf.int64)
        return tf.math.confusion_matrix(tf.maximum(true, 0), predicted, self.classes, counts, tf.int64)

    def _client_sums(self, weights, client_ids, show_progress, own=True, outputs=None):
        """Yields the clients' sums in order: the order of addition does not depend on the threads."""
        reader, zero, step = self._graphs
        shared, own_fn = _tensors(weights), self._own_fn if own else None
        num_trainable = len(self._model.initial_weights[0])
        # Clients' stored weights may change while those that all share stay as they are.
        known = self._sums_of(shared, own_fn is not None) if getattr(own_fn, "is_pure", True) else {}

        self._prepare([c for c in client_ids if c not in known or outputs is not None], show_progress)

        def sums(client_id):
            if (state := known.get(client_id)) is not None and outputs is None:
                return state
            given = shared if own_fn is None else own_fn(shared, client_id)
            parts = tuple(given[:num_trainable]), tuple(given[num_trainable:])
            state, labels, predicted = zero, [], []
            for batch in reader(client_id):
                state = step(parts, state, batch)
                labels += [batch[1]] * self._counts_labels
                predicted += [] if outputs is None else [(self._predict(parts, batch[0]), batch[1])]
            if outputs is not None:
                outputs[client_id] = predicted
            if self._counts_labels:
                self._labels[client_id] = baseline.occurrences(labels)
            if len(known) < MOST_KNOWN:
                known[client_id] = state
            return state

        with (
            _bar("Evaluating", len(client_ids), show_progress) as bar,
            concurrent.futures.ThreadPoolExecutor(self._threads) as pool,
        ):
            for found in pool.map(sums, client_ids):
                bar.update()
                yield found

    def _prepare(self, client_ids, show_progress):
        with _bar("Preparing", None, show_progress) as bar:

            def show(done, total):
                bar.total = total
                bar.update(done - bar.n)

            self._prepare_fn(client_ids, show)

    def _sums_of(self, parts, own: bool) -> dict:
        """The sums of clients that have been evaluated with these weights, or with their own that are made of them."""
        digest = models.digest(tensor.numpy() for tensor in tf.nest.flatten(parts))
        if self._evaluated.get(own, ("",))[0] != digest:
            self._evaluated[own] = (digest, {})
        return self._evaluated[own][1]

    def label_counts(self, client_ids: Sequence[str]) -> np.ndarray:
        """How often the clients have each class; of clients that have been evaluated nothing is read again."""
        missing = [client_id for client_id in client_ids if client_id not in self._labels]
        self._prepare(missing, False)
        for client_id in missing:
            self._labels[client_id] = baseline.occurrences([y for _, y in self._graphs[0](client_id)])
        return baseline.total([self._labels[client_id] for client_id in client_ids])

    def _finish(self, sums):
        metrics = self._model.finalize_metrics(sums[0])
        return collections.OrderedDict((k, v.numpy().item()) for k, v in metrics.items())


def _bar(what, total, is_shown):
    return tqdm(total=total, desc=what, unit=" clients", delay=2, leave=False, disable=not is_shown)


def _tensors(weights) -> list[tf.Tensor]:
    """All weights, the trainable ones first."""
    return [tf.convert_to_tensor(w) for w in (*weights.trainable, *weights.non_trainable)]


def _add(total, sums):
    return tf.nest.map_structure(tf.add, total, sums)


def spread(by_client: pd.DataFrame, metrics: Sequence[models.Metric]) -> pd.DataFrame:
    """How metrics are spread over clients: mean, standard deviation, percentiles, worst and best.

    Counts are left out. The worst is the largest where lower is better, such as of losses; of metrics that are not
    known more is better. Returns a row a metric.
    """
    figures = by_client.drop(columns=[m.name for m in metrics if m.higher_is_better is None], errors="ignore")
    table = figures.agg(["mean", "std", "min", "max"]).T
    table["std"] = figures.std(ddof=0)
    for percent in (10, 50, 90):
        table[f"p{percent}"] = figures.quantile(percent / 100)
    lower_is_better = table.index.isin([m.name for m in metrics if m.higher_is_better is False])
    table["worst"] = table["max"].where(lower_is_better, table["min"])
    table["best"] = table["min"].where(lower_is_better, table["max"])
    return table[["mean", "std", "p10", "p50", "p90", "worst", "best"]]
