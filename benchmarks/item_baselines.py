"""Ranking items without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tqdm

from tff_tx import models, runtime


def item_counts(clients, num_items: int) -> np.ndarray:
    """How often the clients' histories have each item: float32 [1 + num_items], of which the first is no item's."""
    counts = np.zeros(1 + num_items, np.float32)
    reader = runtime.ClientReader(clients.serializable_dataset_fn)
    for client_id in _shown(clients.client_ids, "Counting"):
        for example in reader(client_id):
            np.add.at(counts, example["item_ids"].numpy(), 1)
    return counts


def rank(counts: np.ndarray, batches_fn, client_ids: Sequence[str]) -> dict[str, float]:
    """The metrics of counts as the scores of the candidates that evaluation asks for.

    Args:
      counts: Of `item_counts`.
      batches_fn: A task's `eval_batches_fn`.
      client_ids: Whose batches.
    """
    objective, reader, total = models.next_item(), runtime.ClientReader(batches_fn), None
    for client_id in _shown(client_ids, "Ranking"):
        for x, y in reader(client_id):
            sums = objective.sums_fn(tf.gather(counts, x["candidates"]), y, tf.constant(0.0))
            total = sums if total is None else tf.nest.map_structure(tf.add, total, sums)
    return {name: float(value) for name, value in objective.finalize_fn(total).items()}


def _shown(client_ids, what):
    return tqdm.tqdm(client_ids, desc=what, unit=" clients", leave=False, delay=2)
