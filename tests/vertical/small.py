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


def joint_step(federation):
    """One step of the joint model on pooled data, by one tape over all weights: the loss and gradients by party."""
    label, others = federation.label, {name: stored._party for name, stored in federation._here.items()}
    rows = label.schedule.batches("train", 1)[0]
    batches = {name: party._batch("train", 1, 0) for name, party in others.items()}
    batches[label.name] = label._own(rows, 1, 0)
    half = {name: party.half for name, party in others.items()}
    if label.bottom is not None:
        half[label.name] = label.bottom
    before = weights(federation)
    with tf.GradientTape() as tape:
        tape.watch(before)
        cuts = {n: h.model.predict_on_batch((before[n], h.fixed), batches[n], True) for n, h in half.items()}
        inputs = {**cuts, "present": tf.ones([len(rows), len(cuts)], tf.bool), "seed": batches[label.name]["seed"]}
        logits = label.top.model.predict_on_batch((before["top"], label.top.fixed), inputs, True)
        loss = label.top.model.loss(logits, tf.constant(label.labels[rows]))
    return float(loss), tape.gradient(loss, before)


def weights(federation):
    """Trainable weights of the top and by party of all bottoms."""
    label, others = federation.label, {name: stored._party for name, stored in federation._here.items()}
    found = {"top": label.top.trainable, **{name: party.half.trainable for name, party in others.items()}}
    return found if label.bottom is None else {**found, label.name: label.bottom.trainable}


def assert_moved_by(before, after, gradients):
    """SGD with a rate of 1 moves weights by just their gradient."""
    for name in before:
        moved = [w - v for w, v in zip(before[name], after[name])]
        assert largest_difference(moved, gradients[name]) < 1e-5, name
        assert largest_difference(moved, [0.0 * w for w in moved]) > 1e-3, name


def with_settings(settings, **more):
    """Other settings."""
    return dataclasses.replace(settings, **more)


def largest_difference(one, other):
    """Between two structures of arrays."""
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other))
    return max(float(np.max(np.abs(_dense(a) - _dense(b)))) for a, b in pairs)


def _dense(array):
    return np.asarray(tf.convert_to_tensor(array))
