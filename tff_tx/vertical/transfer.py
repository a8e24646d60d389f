"""Federated transfer: a party without labels, and with few rows in common, learns what the other's labels mean."""

from __future__ import annotations

import tensorflow as tf

from tff_tx import models
from tff_tx.vertical.label_party import Defend, LabelParty


class TransferParty(LabelParty):
    """Trains on its own rows, and draws both parties' encodings of the rows in common together.

    Per step, with u of its own bottom and v of a feature party's, both one token: loss(head(u(x)), y) over a batch of
    its rows + gamma * mean |u - v|^2 over a batch of the rows in common (Liu et al. 2018, "Secure federated transfer
    learning", https://arxiv.org/abs/1812.03337, with the squared distance as alignment). The head then serves v, so
    that rows which only the feature party knows can be predicted. What it is sent of the rows in common are encodings:
    they can be clipped and noised.
    """

    asks_for = "common"

    def _given(self, epoch, batch, cuts):
        """As of `LabelParty`, with `cuts` of the batch of rows in common, which it knows as well."""
        own, *rest = super()._given(epoch, batch, cuts)
        return own, self._own(self.schedule.batches("common", epoch)[batch], epoch, batch), *rest

    def defend_with(self, defend: Defend | None) -> None:
        """Has gradients be sent with another defence."""
        self._defend = defend
        state, own, *rest = self._step_spec
        self._step = tf.function(self._align, [state, own, own, *rest], False)

    def _forward(self, top, bottom, own, cuts, present, training):
        """Of its own rows; or, to predict, of what a feature party sends of rows that it alone knows."""
        if training:
            token = self.bottom.model.predict_on_batch((bottom, self.bottom.fixed), own, True)
        else:
            token = tf.add_n(list(cuts.values())) / len(cuts)
        inputs = {self.name: token, "present": present[:, :1], models.SEED: own[models.SEED]}
        return self.top.model.predict_on_batch((top, self.top.fixed), inputs, training)

    def _align(self, state, own, common, cuts, present, labels, key):
        top, bottom = state[0][0], state[1][0]
        with tf.GradientTape() as tape:
            tape.watch((top, bottom, cuts))
            loss = self.top.model.loss(self._forward(top, bottom, own, cuts, present, True), labels)
            total = loss
            for cut in cuts.values():
                token = self.bottom.model.predict_on_batch((bottom, self.bottom.fixed), common, True)
                distance = tf.reduce_mean(tf.reduce_sum(tf.square(token - cut), axis=[1, 2]))
                total += self._settings.alignment_weight * distance
        of_top, of_bottom, sent = tape.gradient(total, (top, bottom, cuts))
        after = self.top.step(*state[0], of_top), self.bottom.step(*state[1], of_bottom)
        return after, loss, self._sent(sent, labels, key), sent
