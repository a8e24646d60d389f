"""A task with as many clients as one likes and next to nothing to compute, stored as real ones are."""

from __future__ import annotations

import collections
import os

import numpy as np
import tensorflow as tf

from tff_tx import algorithms, datasets, models, tasks
from tff_tx.config.algorithm import ClientConfig

_LABELS = tuple("0123456789")
_SPEC = collections.OrderedDict(label=tf.TensorSpec([], tf.int32), pixel_values=tf.TensorSpec([1, 8, 8], tf.float32))
_EXAMPLES = 2
_CONFIG = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 4,
    "num_channels": 1,
    "image_size": 8,
    "num_labels": len(_LABELS),
}
OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
    client_learning_rate=0.01,
)


def create(directory: str, clients: int) -> tasks.FederatedTask:
    """Writes the clients' store and joins it with a tiny ViT.

    Args:
      directory: Where the store goes.
      clients: How many, with two images each.
    """
    path = os.path.join(directory, "clients.sqlite")
    rng = np.random.default_rng(0)
    pixels = rng.random([100, *_SPEC["pixel_values"].shape], np.float32)
    kind = "image_classification"
    meta = {"kind": kind, "label_names": list(_LABELS), "fingerprint": "", "dataset": ""}
    with datasets.StoreWriter(path, _SPEC, meta) as writer:
        for i in range(clients * _EXAMPLES):
            example = {"label": i % len(_LABELS), "pixel_values": pixels[i % len(pixels)]}
            writer.add("train", f"client {i // _EXAMPLES}", example)
    preprocessing = tasks.Preprocessing(kind, _SPEC)
    return tasks.FederatedTask(
        kind=kind,
        train=datasets.SqliteClientData(path, "train"),
        model=create_model(preprocessing.x_spec),
        preprocessing=preprocessing,
        local=ClientConfig(batch_size=_EXAMPLES),
        label_names=_LABELS,
    )


def create_model(x_spec, **settings) -> models.TransformerModel:
    """The tiny ViT; settings are of `models.functional_model`."""
    model = models.from_config("TFAutoModelForImageClassification", "vit", _CONFIG)
    return models.functional_model(model, models.classification("image_classification"), x_spec, **settings)


def process(task: tasks.FederatedTask):
    """FedAvg on the task."""
    return task.process(algorithms.build_fed_avg(task.model, OPTIONS))
