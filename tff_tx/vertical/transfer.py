"""Federated transfer: a party without labels, and with few rows in common, learns what the other's labels mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.vertical.label_party import Defend, LabelParty


class TransferParty(LabelParty):
    """Trains on its own rows, and has its head read what a feature party sends of the rows in common.

    Per step, with u of its own bottom and v of a feature party's, both one token: loss(head(u(x)), y) over a batch of
    its rows + gamma * (loss(head(v(z)), y) + mean (u(x) - v(z))^2) over a batch of the rows in common: the losses L1
    and L2 of Liu et al. 2018, "Secure federated transfer learning", https://arxiv.org/abs/1812.03337, with the mean
    squared difference as alignment. The head then serves v, so that rows which only the feature party knows can be
    predicted. What it is sent of the rows in common are encodings: they can be clipped and noised; so can the gradients
    that go back, which tell of their labels.
    """

    asks_for = "common"

    def _given(self, epoch, batch, cuts):
        """As of `LabelParty`, with `cuts` of the batch of rows in common, which it knows as well."""
        own, *rest = super()._given(epoch, batch, cuts)
        rows = self.schedule.batch("common", epoch, batch)
        return own, self._own(rows, epoch, batch), tf.constant(self.labels[rows]), *rest

    def logits(self, split: str, epoch: int, batch: int, cuts: Mapping[str, np.ndarray]) -> np.ndarray:
        """As of `LabelParty`, of what feature parties send, or one of them: of rows that need not be its own."""
        sent = next(iter(cuts.values()))
        own = self._own(np.zeros(len(sent), np.int64), epoch, batch)  # its columns have no part in it
        given = {name: tf.constant(cuts.get(name, sent)) for name in self.others}
        return self._logits(self.state, own, given, tf.ones([len(sent), len(self._parties)], tf.bool)).numpy()

    def defend_with(self, defend: Defend | None) -> None:
        """Has gradients be sent with another defence."""
        self._defend = defend
        state, own, *rest = self._step_spec
        label = self._step_spec[-2]
        self._step = tf.function(self._align, [state, own, own, label, *rest], False)

    def _forward(self, top, bottom, own, cuts, present, training):
        """Of its own rows; or, to predict, of what a feature party sends of rows that it alone knows."""
        if training:
            token = self.bottom.model.predict_on_batch((bottom, self.bottom.fixed), own, True)
        else:
            token = tf.add_n(list(cuts.values())) / len(cuts)
        return self._read(top, token, own[models.SEED], training)

    def _read(self, top, token, seed, training):
        inputs = {self.name: token, "present": tf.ones([tf.shape(token)[0], 1], tf.bool), models.SEED: seed}
        return self.top.model.predict_on_batch((top, self.top.fixed), inputs, training)

    def _align(self, state, own, common, known, cuts, present, labels, key):
        top, bottom = state[0][0], state[1][0]
        with tf.GradientTape() as tape:
            tape.watch((top, bottom, cuts))
            loss = self.top.model.loss(self._forward(top, bottom, own, cuts, present, True), labels)
            token = self.bottom.model.predict_on_batch((bottom, self.bottom.fixed), common, True)
            total = loss
            for cut in cuts.values():
                read = self.top.model.loss(self._read(top, cut, common[models.SEED], True), known)
                distance = tf.reduce_mean(tf.square(token - cut))
                total += self.settings.alignment_weight * (read + distance)
        of_top, of_bottom, sent = tape.gradient(total, (top, bottom, cuts))
        after = self.top.step(*state[0], of_top), self.bottom.step(*state[1], of_bottom)
        return after, loss, self._sent(sent, known, key), sent
