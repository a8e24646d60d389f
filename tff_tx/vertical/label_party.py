"""The party with the labels: the top model, the loss, and the gradients that go back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.algorithms.client.noise import split_seed
from tff_tx.config.vertical import VerticalConfig
from tff_tx.vertical.crossing import Wire
from tff_tx.vertical.halves import Half
from tff_tx.vertical.private_steps import PrivateSteps, for_each_row, gradients_of
from tff_tx.vertical.schedule import Schedule, secret_key
from tff_tx.vertical.workset import Workset, row_weights, scale_rows

Defend = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""(gradients [batch, tokens, cut_size] of the sum over rows, labels [batch], key) -> what is sent of them."""


class LabelParty:
    """Trains the top and, if it has columns, a bottom of its own.

    Attributes:
      name: The party's name.
      top: The top model.
      bottom: Its own bottom; None: it has labels alone.
      schedule: Of the batches.
      labels: Of all common rows, as trained on.
      settings: Missing parties, and what is sent.
      asks_for: The split whose batches feature parties send in training.
      wire: How what crosses the cut is sent.

    Args:
      name: The party's name.
      parties: All parties with a bottom, in the order of the columns of `present`.
      inputs: Arrays of its own columns, of all common rows.
      labels: int32 or float32 [rows].
      top: The top model, on its objective.
      bottom: Its own bottom, or None.
      schedule: Of the batches.
      settings: Missing parties, and what is sent.
      defend: What is done to gradients before they are sent; None: nothing.
      noise_key: Seed of its noise, its own secret; None: follows the schedule's, in simulation.
    """

    asks_for = "train"

    def __init__(
        self,
        name: str,
        parties: list[str],
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        top: Half,
        bottom: Half | None,
        schedule: Schedule,
        settings: VerticalConfig,
        defend: Defend | None = None,
        noise_key: int | None = None,
    ):
        self.name, self.top, self.bottom, self.schedule, self.labels = name, top, bottom, schedule, labels
        self._parties, self._inputs, self.settings, self.wire = parties, inputs, settings, Wire(settings)
        self._workset, self._private = Workset(settings.workset), PrivateSteps.of(settings)
        self._noise_key = schedule.seed if noise_key is None else noise_key
        of_top, label = top.model.input_spec
        state = top.state_spec, () if bottom is None else bottom.state_spec
        key = tf.TensorSpec([2], tf.int64)
        own = {models.SEED: key} if bottom is None else bottom.model.input_spec[0]
        self._cut_specs = {other: of_top.get(other, of_top.get(name)) for other in self.others}
        given = [state, own, self._cut_specs, tf.TensorSpec([None, len(parties)], tf.bool)]
        self._step_spec = [*given, label, key]
        self.defend_with(defend)
        self._logits = tf.function(self._logits, given, False)

    def defend_with(self, defend: Defend | None) -> None:
        """Has gradients be sent with another defence."""
        self._defend = defend
        self._step = tf.function(self._train, self._step_spec, False)
        self._weighted = tf.function(self._repeat, [self._cut_specs, *self._step_spec], False)

    @property
    def others(self) -> list[str]:
        """The feature parties."""
        return [name for name in self._parties if name != self.name]

    @property
    def state(self) -> Any:
        """What a checkpoint holds."""
        return self.top.state, () if self.bottom is None else self.bottom.state

    @state.setter
    def state(self, value: Any) -> None:
        self.top.state = value[0]
        if self.bottom is not None:
            self.bottom.state = value[1]

    def cut_shape(self, name: str, rows: int) -> tuple[int, ...]:
        """Shape of what a feature party sends of so many rows."""
        return (rows, *self._cut_specs[name].shape[1:])

    def step(self, epoch: int, batch: int, cuts: Mapping[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        """A step of training on a batch, and local updates.

        Args:
          epoch: Which, from 1.
          batch: Which of its batches, from 0.
          cuts: float32 [batch, tokens, cut_size] by feature party.

        Returns:
          The loss, and by feature party the gradient of the sum of losses in what it sent, of the same shape; both of
          the first update.
        """
        if batch == 0:
            self._workset.clear()
        given = self._given(epoch, batch, cuts)
        self.state, loss, sent, stale = self._step(self.state, *given)
        self._workset.add((given, stale))
        for _ in range(self.settings.local_updates - 1):
            given, stale = self._workset.take()
            if self.settings.stale_similarity is None:
                self.state = self._step(self.state, *given)[0]
            else:
                self.state = self._weighted(stale, self.state, *given)
        return float(loss), {name: gradient.numpy() for name, gradient in sent.items()}

    def logits(self, split: str, epoch: int, batch: int, cuts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predictions float32 [batch, outputs] of a batch; parties without `cuts` are missing."""
        rows = self.schedule.batch(split, epoch, batch)
        here = [name in cuts or (name == self.name and name not in self.settings.without) for name in self._parties]
        present = tf.repeat([here], len(rows), axis=0)
        absent = {name: np.zeros([len(rows), *s.shape[1:]], np.float32) for name, s in self._cut_specs.items()}
        return self._logits(self.state, self._own(rows, epoch, batch), _constants({**absent, **cuts}), present).numpy()

    def _given(self, epoch, batch, cuts):
        """What a step takes besides the state."""
        rows = self.schedule.batch("train", epoch, batch)
        of = len(rows), self._parties, self.name, self.settings.missing, epoch, batch
        present = tf.constant(self.schedule.present(*of))
        own, labels, where = self._own(rows, epoch, batch), self.labels[rows], [epoch, batch]
        if self._defend is not None or self.settings.weight_noise:  # as of `FeatureParty`: none of it comes twice
            weights = self.top.trainable, () if self.bottom is None else self.bottom.trainable
            where.append(int(models.digest(tf.nest.flatten((weights, own, labels, cuts))), 16))
        key = tf.constant(secret_key(self._noise_key, f"gradients of {self.name}", *where))
        return own, _constants(cuts), present, tf.constant(labels), key

    def _own(self, rows, epoch, batch):
        found = {name: tf.constant(array[rows]) for name, array in self._inputs.items()}
        return {**found, models.SEED: tf.constant(self.schedule.key(self.name, epoch, batch))}

    def _forward(self, top, bottom, own, cuts, present, training):
        inputs = {**cuts, "present": present, models.SEED: own[models.SEED]}
        if self.bottom is not None:
            inputs[self.name] = self.bottom.model.predict_on_batch((bottom, self.bottom.fixed), own, training)
        return self.top.model.predict_on_batch((top, self.top.fixed), inputs, training)

    def _logits(self, state, own, cuts, present):
        bottom = state[1][0] if self.bottom is not None else ()
        return self._forward(state[0][0], bottom, own, cuts, present, False)

    def _train(self, state, own, cuts, present, labels, key):
        if self._private is not None:
            return self._train_privately(state, own, cuts, present, labels, key)
        top, bottom = state[0][0], state[1][0] if self.bottom is not None else ()
        with tf.GradientTape() as tape:
            tape.watch((top, bottom, cuts))
            loss = self.top.model.loss(self._forward(top, bottom, own, cuts, present, True), labels)
        of_top, of_bottom, sent = tape.gradient(loss, (top, bottom, cuts))
        after = self.top.step(*state[0], of_top), () if self.bottom is None else self.bottom.step(*state[1], of_bottom)
        return after, loss, self._sent(sent, labels, key), sent

    def _train_privately(self, state, own, cuts, present, labels, key):
        """As `_train`, with the noised mean of clipped gradients of the rows in place of the gradient."""
        top, bottom = state[0][0], state[1][0] if self.bottom is not None else ()
        inputs, seed = split_seed(own)

        def of_row(row, seed):
            inputs, cuts, present, labels = row
            with tf.GradientTape() as tape:
                tape.watch((top, bottom, cuts))
                logits = self._forward(top, bottom, {**inputs, models.SEED: seed}, cuts, present, True)
                loss = self.top.model.loss(logits, labels)
            # Together: the second of two backward passes takes as long to trace, and to compute, as the first.
            found = gradients_of(tape, loss, (*cuts.values(), *top, *bottom))
            return loss, {name: g[0] for name, g in zip(cuts, found)}, found[len(cuts) :]

        losses, sent, gradients = for_each_row(of_row, (inputs, cuts, present, labels), seed)
        found = self._private.mean(gradients, (*top, *bottom), key)
        of_top, of_bottom = found[: len(top)], found[len(top) :]
        after = self.top.step(*state[0], of_top), () if self.bottom is None else self.bottom.step(*state[1], of_bottom)
        of_mean = tf.nest.map_structure(lambda g: g / tf.cast(tf.shape(g)[0], tf.float32), sent)
        return after, tf.reduce_mean(losses), self._sent(of_mean, labels, key), of_mean

    def _repeat(self, stale, state, own, cuts, present, labels, key):
        """A local update in which rows have weights, by what their gradients were when they were sent."""
        del key
        top, bottom = state[0][0], state[1][0] if self.bottom is not None else ()
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((top, bottom, cuts))
            logits = self._forward(top, bottom, own, cuts, present, True)
            loss = self.top.model.loss(logits, labels)
        of_logits, fresh = tape.gradient(loss, logits), tape.gradient(loss, cuts)
        weights = row_weights(list(fresh.values()), list(stale.values()), self.settings.stale_similarity)
        of_top, of_bottom = tape.gradient(logits, (top, bottom), scale_rows(of_logits, weights))
        return self.top.step(*state[0], of_top), () if self.bottom is None else self.bottom.step(*state[1], of_bottom)

    def _sent(self, gradients, labels, key):
        """What is sent of the gradients of the mean loss: those of the sum, with the defence."""
        sent = {name: gradient * tf.cast(tf.shape(gradient)[0], tf.float32) for name, gradient in gradients.items()}
        if self._defend is not None:
            keys = {name: key + i for i, name in enumerate(sent)}
            sent = {name: self._defend(gradient, labels, keys[name]) for name, gradient in sent.items()}
        return sent


def _constants(arrays):
    return {name: tf.constant(array) for name, array in arrays.items()}
