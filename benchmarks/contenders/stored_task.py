"""A workload as a task whose clients are read from a store, as programs read them: what a cluster's workers can do."""

from __future__ import annotations

import collections
import os

import numpy as np
import tensorflow as tf

from benchmarks.contenders import parts
from benchmarks.workloads import Workload
from tff_tx import datasets, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.datasets import partition

_KIND = "sequence_classification"
_SPEC = collections.OrderedDict(input_ids=tf.TensorSpec([None], tf.int32), label=tf.TensorSpec([], tf.int32))


def create(directory: str, workload: Workload, exponent: float | None = None) -> tasks.FederatedTask:
    """Writes the clients' store and joins it with the model.

    Args:
      directory: Where the store goes.
      workload: The model, how many clients, and how many examples they have together.
      exponent: Of a power law that the clients' sizes follow; None: they are the same.
    """
    path = os.path.join(directory, "clients.sqlite")
    label_names = tuple(map(str, range(workload.labels)))
    meta = {"kind": _KIND, "label_names": list(label_names), "fingerprint": "", "dataset": ""}
    rng = np.random.default_rng(0)
    # From 5 on, as BERT's special tokens come before.
    texts = rng.integers(min(5, workload.vocabulary - 1), workload.vocabulary, [100, workload.length], np.int32)
    with datasets.StoreWriter(path, _SPEC, meta) as writer:
        for client, size in enumerate(sizes(workload, exponent)):
            for i in range(size):
                text = texts[(client + i) % len(texts)]
                writer.add("train", f"client {client}", {"input_ids": text, "label": i % workload.labels})
    tokenizer = _Ids(workload.vocabulary)
    preprocessing = tasks.Preprocessing(_KIND, _SPEC, tokenizer)
    model = parts.keras_model(workload)
    return tasks.FederatedTask(
        kind=_KIND,
        train=datasets.SqliteClientData(path, "train"),
        model=models.functional_model(model, models.classification(_KIND), preprocessing.x_spec),
        preprocessing=preprocessing,
        local=ClientConfig(batch_size=workload.batch_size),
        label_names=label_names,
        tokenizer=tokenizer,
    )


class _Ids:
    """What a task asks of its tokenizer where texts are ids already."""

    pad_token_id = 0

    def __init__(self, vocabulary):
        self._vocabulary = vocabulary

    def __len__(self):
        return self._vocabulary


def sizes(workload: Workload, exponent: float | None = None) -> list[int]:
    """How many examples each client has; together those of the workload, whatever the exponent."""
    if exponent is None:
        return [workload.batches * workload.batch_size] * workload.clients
    owners = partition.power_law(workload.examples_per_round, workload.clients, exponent, np.random.default_rng(0))
    return np.bincount(owners, minlength=workload.clients).tolist()
