"""A party with neither columns nor labels, which computes the top's body: the middle of a U-shaped split."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.config.vertical import VerticalConfig
from tff_tx.core.errors import UserError
from tff_tx.vertical.crossing import Wire, require_version
from tff_tx.vertical.halves import Half
from tff_tx.vertical.schedule import Schedule
from tff_tx.vertical.training import Ask, open_federation, received
from tff_tx.vertical.workset import Workset


class MiddleParty:
    """To the party with the labels a feature party that sends a token a row; to the feature parties who asks them.

    A message passes it as it would pass a layer: what feature parties send goes through the body and on to the party
    with the labels, whose gradient goes through the body and back to them. It sees no labels, as neither does anyone
    else but their party (U-shaped split, Vepakomma et al. 2018, https://arxiv.org/abs/1812.00564, section 2.1).

    Attributes:
      half: The body; None: the parties have not opened yet.
      parties: The feature parties.
      settings: Missing parties, and how what crosses is sent.
      wire: How what crosses both cuts is sent.

    Args:
      name: The party's name.
      parties: The feature parties, in the order of their columns of `present`.
      ask: Sends them a message each.
      build: From the number of tokens of each to the body.
      schedule_of: From the number of common rows to the batches.
      settings: Missing parties, and how what crosses is sent.
    """

    inputs: Mapping[str, np.ndarray] = {}

    def __init__(
        self,
        name: str,
        parties: Sequence[str],
        ask: Ask,
        build: Callable[[Mapping[str, int]], Half],
        schedule_of: Callable[[int], Schedule],
        settings: VerticalConfig,
    ):
        self.name, self.half, self.settings, self.wire = name, None, settings, Wire(settings)
        self.parties, self._ask, self._build, self._schedule_of = list(parties), ask, build, schedule_of
        # Batches whose gradients have yet to come.
        self._pending: collections.deque[Any] = collections.deque(maxlen=2 if settings.late else 1)
        self._workset = Workset(settings.workset)

    def below(self, phase: str, said: Mapping[str, Any]) -> list[dict]:
        """What the feature parties say to the same message."""
        return [told for told, _ in self._ask(phase, {name: (dict(said), ()) for name in self.parties}).values()]

    def cut_shape(self, name: str, rows: int) -> tuple[int, ...]:
        """Shape of what a feature party sends of so many rows."""
        return (rows, *self.half.model.input_spec[0][name].shape[1:])

    def answer(self, phase: str, said: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> tuple[dict, list]:
        """Answers a message of the label party, as `FeatureParty.answer`; with the bytes that passed below.

        Raises:
          UserError: If a feature party's rows, order or version are others, or a gradient is not of its batch.
        """
        if phase == "open":
            return self._open(said), []
        gradients = self._learn(arrays) if arrays else {}
        told = {"down": sum(map(self.wire.size, gradients.values()))}
        if phase == "end":
            self._ask("end", {name: ({"epoch": said["epoch"]}, gradient) for name, gradient in gradients.items()})
            return told, []
        if phase not in ("step", "predict"):
            raise UserError(f"there is no step {phase!r} in a vertical federation.")
        at = str(said["split"]), int(said["epoch"]), int(said["batch"])
        is_step, rows = phase == "step", len(self._schedule.batch(*at))
        asked = [name for name in self.parties if is_step or name not in said.get("without", ())]
        where = {"split": at[0], "epoch": at[1], "batch": at[2]}
        answers = self._ask(phase, {name: (where, gradients.get(name, ())) for name in asked})
        told["up"] = sum(self.wire.size(sent) for _, sent in answers.values())
        batch = self._batch(received(answers, self, rows), rows, at, is_step)
        found = self._forwards[is_step](self.half.trainable, batch)
        if is_step:
            if at[2] == 0:
                self._pending.clear()
                self._workset.clear()
            self._pending.append((at, batch))
        return told, self.wire.pack(found.numpy(), self._schedule.key(f"rounding of {self.name}", *at[1:]))

    def _open(self, said):
        require_version(said)
        found = open_federation(self.parties, self._ask, int(said["rows"]), str(said["alignment"]))
        self._schedule = self._schedule_of(int(said["rows"]))
        self.half = self._build({name: found[name]["tokens"] for name in self.parties})
        weights, optimizer = self.half.state_spec
        batch, cut = self.half.model.input_spec[0], self.half.model.objective.output_spec
        self._forwards = {
            training: tf.function(lambda *of, training=training: self._forward(*of, training), [weights, batch], False)
            for training in (True, False)
        }
        self._backward = tf.function(self._train, [weights, optimizer, batch, cut], False)
        return {"tokens": cut.shape[1]}

    def _batch(self, cuts, rows, at, is_step):
        """What the body reads: zeros of parties that are missing."""
        present = np.tile([name in cuts for name in self.parties], [rows, 1])
        if is_step:
            present = self._schedule.present(rows, self.parties, "", self.settings.missing, *at[1:])
        absent = {n: np.zeros(self.cut_shape(n, rows), np.float32) for n in self.parties}
        found = {name: tf.constant(array) for name, array in {**absent, **cuts}.items()}
        return {
            **found,
            "present": tf.constant(present),
            models.SEED: tf.constant(self._schedule.key(self.name, *at[1:])),
        }

    def _learn(self, arrays):
        """Trains on the oldest batch that waits; returns by feature party what is sent back of its gradient."""
        if not self._pending:
            raise UserError("a gradient came that is of no batch.")
        at, batch = self._pending.popleft()
        rows = len(batch["present"])
        try:
            gradient = self.wire.unpack(arrays, (rows, *self.half.model.objective.output_spec.shape[1:]))
        except ValueError as error:
            raise UserError(f"a gradient came that is not of the batch: {error}.") from None
        given = batch, tf.constant(gradient / rows)  # what came is the gradient of the sum over rows
        self.half.state, found = self._backward(*self.half.state, *given)
        self._workset.add(given)
        for _ in range(self.settings.local_updates - 1):
            self.half.state, _ = self._backward(*self.half.state, *self._workset.take())
        key = self._schedule.key(f"rounding back of {self.name}", *at[1:])
        return {name: self.wire.pack(array.numpy() * np.float32(rows), key) for name, array in found.items()}

    def _forward(self, trainable, batch, training):
        return self.half.model.predict_on_batch((trainable, self.half.fixed), batch, training)

    def _train(self, trainable, optimizer_state, batch, gradient):
        cuts = {name: batch[name] for name in self.parties}
        with tf.GradientTape() as tape:
            tape.watch((trainable, cuts))
            loss = self.half.model.loss(self._forward(trainable, {**batch, **cuts}, True), gradient)
        of_weights, of_cuts = tape.gradient(loss, (trainable, cuts))
        return self.half.step(trainable, optimizer_state, of_weights), of_cuts
