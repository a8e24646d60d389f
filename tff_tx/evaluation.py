"""A model on held-out clients: the figures over all their data, and how they are spread over the clients."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Sequence
from typing import Any, Callable

import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff


class Evaluator:
    """Evaluates weights of one model on clients.

    Args:
      model: A `tff.learning.models.FunctionalModel`.
      batches_fn: From a client id (string scalar tensor) to its batches (x, y), traceable.
      threads: Clients evaluated at the same time.
    """

    def __init__(
        self,
        model: tff.learning.models.FunctionalModel,
        batches_fn: Callable[[tf.Tensor], tf.data.Dataset],
        threads: int = 4,
    ):
        self._model, self._threads = model, threads

        @tf.function
        def sums(weights, client_id):
            state = model.initialize_metrics_state()
            # An iterator, as AutoGraph turns a loop over a dataset into a function optimized anew for each client.
            for x, y in iter(batches_fn(client_id)):
                output = model.predict_on_batch(weights, x, training=False)
                loss = model.loss(output, y)
                batch = tff.learning.models.BatchOutput(loss, output, tf.shape(output)[0])
                state = model.update_metrics_state(state, labels=y, batch_output=batch)
            return state

        specs = tuple(tuple(tf.TensorSpec(w.shape, w.dtype) for w in part) for part in model.initial_weights)
        self._sums = sums.get_concrete_function(specs, tf.TensorSpec([], tf.string))

    def metrics(self, weights: Any, client_ids: Sequence[str]) -> collections.OrderedDict:
        """The metrics over the pooled data of the clients, as floats and ints by name.

        Args:
          weights: `tff.learning.models.ModelWeights`.
          client_ids: At least one.
        """
        total = None
        for sums in self._client_sums(weights, client_ids):
            total = sums if total is None else tf.nest.map_structure(tf.add, total, sums)
        return self._finish(total)

    def metrics_by_client(self, weights: Any, client_ids: Sequence[str]) -> pd.DataFrame:
        """The metrics of each client: a row a client, indexed by its id."""
        rows = [self._finish(sums) for sums in self._client_sums(weights, client_ids)]
        return pd.DataFrame(rows, index=pd.Index(client_ids, name="client"))

    def _client_sums(self, weights, client_ids):
        """Yields the clients' sums in order: the order of addition does not depend on the threads."""
        flat = [tf.convert_to_tensor(w) for part in (weights.trainable, weights.non_trainable) for w in part]
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(lambda c: self._sums(*flat, tf.constant(c)), client_ids)

    def _finish(self, sums):
        metrics = self._model.finalize_metrics(sums)
        return collections.OrderedDict((k, v.numpy().item()) for k, v in metrics.items())


def spread(by_client: pd.DataFrame) -> pd.DataFrame:
    """How metrics are spread over clients: mean, standard deviation, percentiles, worst and best.

    The worst is the largest loss or perplexity and the smallest of the others.

    Args:
      by_client: As `Evaluator.metrics_by_client` gives it.

    Returns:
      A row a metric.
    """
    figures = by_client.drop(columns=["num_examples", "num_items"], errors="ignore")
    table = figures.agg(["mean", "std", "min", "max"]).T
    table["std"] = figures.std(ddof=0)
    for percent in (10, 50, 90):
        table[f"p{percent}"] = figures.quantile(percent / 100)
    lower_is_better = table.index.isin(["loss", "perplexity", "bits_per_token"])
    table["worst"] = table["max"].where(lower_is_better, table["min"])
    table["best"] = table["min"].where(lower_is_better, table["max"])
    return table[["mean", "std", "p10", "p50", "p90", "worst", "best"]]
