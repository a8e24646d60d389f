"""Hijacking: a malicious label party trains a feature party's bottom to give its inputs away."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tff_tx.algorithms.optimizers import build_optimizer
from tff_tx.vertical import leakage
from tff_tx.vertical.crossing import Wire
from tff_tx.vertical.schedule import Schedule
from tff_tx.vertical.training import Ask

_RATE = 1e-2


def hijack(
    ask: Ask, name: str, features: np.ndarray, schedule: Schedule, wire: Wire, tokens: int, steps: int, known: int = 100
) -> float:
    """Hijacks a party's bottom; returns the share of the other rows' variance that is then reconstructed, R^2.

    As in FSHA (Pasquini, Ateniese and Bernaschi 2021, "Unleashing the tiger", https://arxiv.org/abs/2012.02670), the
    gradients that are sent back are not those of the task, but draw the bottom into a space that the attacker can
    invert: those of |decoder(f(x)) - x|^2, with a linear decoder that is trained along. FSHA finds that space without
    pairs, by a discriminator; here the attacker knows as much as in `leakage.features_from_activations`, so that the
    two differ by the hijacking alone. It asks again and again for the batches that hold the rows it knows.

    Args:
      ask: Sends feature parties a message each; the party's weights change.
      name: The party.
      features: float [rows, ...] of all rows.
      schedule: The batches.
      wire: How activations and gradients are sent.
      tokens: Tokens of a row that cross the cut.
      steps: Batches that the attacker trains on.
      known: Number of rows that it knows, the first of the first epoch.
    """
    batches = schedule.batches("train", 1)
    flat = features.reshape(len(features), -1).astype(np.float32)
    ours = flat[np.concatenate(batches)[:known]]
    flat = (flat - ours.mean(axis=0)) / (ours.std(axis=0) + 1e-6)
    decoder = _Decoder(tokens * wire.cut_size, flat.shape[1])
    gradient: tuple | list = ()

    def received(number, gradient=()):
        ((_, arrays),) = ask("step", {name: ({"split": "train", "epoch": 1, "batch": number}, gradient)}).values()
        return wire.unpack(arrays, (len(batches[number]), tokens, wire.cut_size))

    for step in range(steps):
        number = step % min(len(batches), -(-known // len(batches[0])))
        cut = received(number, gradient)
        of_known = np.arange(len(cut)) + number * len(batches[0]) < known
        found = decoder.gradient(cut, flat[batches[number]], of_known)
        gradient = wire.pack(found, schedule.key("hijacking", 1, step))
    ask("end", {name: ({}, gradient)})
    sent = np.concatenate([received(number) for number in range(len(batches))])
    return leakage.features_from_activations(sent, features[np.concatenate(batches)], known)


class _Decoder:
    """A linear map from activations to features, with Adam."""

    def __init__(self, size, outputs):
        start = np.random.default_rng(0).normal(size=(size, outputs)) / np.sqrt(size)
        self._weights = tf.constant(start, tf.float32), tf.zeros([outputs])
        self._optimizer = build_optimizer("adam", _RATE)
        self._state = self._optimizer.initialize(tuple(tf.TensorSpec(w.shape) for w in self._weights))
        self._step = tf.function(self._train)

    def gradient(self, cut, features, of_known):
        """Trains on the rows that are known; returns the gradient of their error in the cut, zero for others."""
        given = tf.constant(cut), tf.constant(features), tf.constant(of_known, tf.float32)
        self._state, self._weights, found = self._step(self._state, self._weights, *given)
        return found.numpy()

    def _train(self, state, weights, cut, features, of_known):
        with tf.GradientTape() as tape:
            tape.watch((cut, weights))
            found = tf.reshape(cut, [tf.shape(cut)[0], -1]) @ weights[0] + weights[1]
            total = tf.reduce_sum(tf.reduce_mean(tf.square(found - features), axis=1) * of_known)
        of_cut, of_weights = tape.gradient(total, (cut, weights))
        return *self._optimizer.next(state, weights, of_weights), of_cut
