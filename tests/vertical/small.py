"""Small vertical federations."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tff_tx.config import RunConfig
from tff_tx.config.vertical import VerticalConfig
from tff_tx.run.vertical_federation import Federation

SIZE = {"cut_size": 8, "heads": 2, "batch_size": 64, "learning_rate": 0.01}
TUMOURS = {
    "clinic": {"numeric": ["mean_radius", "mean_texture"], "label": "label"},
    "laboratory": {"numeric": ["mean_area", "worst_area", "mean_symmetry"]},
}
"""Parties of the embedded tumours, whose two classes are unbalanced."""


def config(dataset="breast_cancer", **more):
    """A run on an embedded data set."""
    return RunConfig.of({"data.dataset": dataset, "run.seed": 3, **more})


def settings(**more):
    """Small settings, tumours by default."""
    return VerticalConfig(**{"parties": TUMOURS, **SIZE, **more})


def federation(directory, settings, config=None):
    """All parties, untrained."""
    return Federation(config or globals()["config"](), settings, str(directory))


def joint_step(label, others, rows_of):
    """One step of the joint model on pooled data, by one tape over all weights: the loss and gradients by party.

    Args:
      label: The label party.
      others: The feature parties by name.
      rows_of: From a party's name to its batch.
    """
    half = {name: party.half for name, party in others.items()}
    weights = {"top": label.top.trainable, **{name: h.trainable for name, h in half.items()}}
    if label.bottom is not None:
        half[label.name], weights[label.name] = label.bottom, label.bottom.trainable
    with tf.GradientTape() as tape:
        tape.watch(weights)
        cuts = {n: h.model.predict_on_batch((weights[n], h.fixed), rows_of(n), True) for n, h in half.items()}
        inputs = {**cuts, "present": tf.ones([64, len(cuts)], tf.bool), "seed": rows_of(label.name)["seed"]}
        logits = label.top.model.predict_on_batch((weights["top"], label.top.fixed), inputs, True)
        rows = label.schedule.batches("train", 1)[0]
        loss = label.top.model.loss(logits, tf.constant(label.labels[rows]))
    return float(loss), tape.gradient(loss, weights)


def with_settings(settings, **more):
    """Other settings."""
    return dataclasses.replace(settings, **more)


def largest_difference(one, other):
    """Between two structures of arrays."""
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other))
    return max(float(np.max(np.abs(_dense(a) - _dense(b)))) for a, b in pairs)


def _dense(array):
    return np.asarray(tf.convert_to_tensor(array))
