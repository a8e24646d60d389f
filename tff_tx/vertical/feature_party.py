"""A party that knows something of each row and has no labels: it answers the label party, a message a batch."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.algorithms.client.noise import split_seed
from tff_tx.config.vertical import VerticalConfig
from tff_tx.core.errors import UserError
from tff_tx.vertical.crossing import Guard, Wire, require_version
from tff_tx.vertical.halves import Half
from tff_tx.vertical.masking import PartyMasks
from tff_tx.vertical.private_steps import PrivateSteps, for_each_row, gradients_of
from tff_tx.vertical.schedule import Schedule, secret_key
from tff_tx.vertical.workset import Workset, row_weights, scale_rows


class FeatureParty:
    """Sends what its bottom makes of a batch, and trains the bottom by the gradient that comes back.

    Attributes:
      half: Its bottom.
      inputs: Arrays of all common rows, in the common order.

    Args:
      name: The party's name.
      inputs: Arrays of all common rows, in the common order.
      half: Its bottom model.
      schedule: Of the batches, as the label party has it.
      settings: What crosses the cut, and how.
      alignment: What the orders of one intersection share; "": there was none.
      noise_key: Seed of the noise on what it sends, its own secret; None: follows the schedule's, in simulation.
      masks: Of the secure sum; None: activations are sent as they are.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, np.ndarray],
        half: Half,
        schedule: Schedule,
        settings: VerticalConfig,
        alignment: str = "",
        noise_key: int | None = None,
        masks: PartyMasks | None = None,
    ):
        self.name, self.half = name, half
        self.inputs, self._schedule, self._settings, self._alignment = inputs, schedule, settings, alignment
        self._noise_key = schedule.seed if noise_key is None else noise_key
        self._masks = masks
        self._guard, self._private = Guard(settings.cut_clip, settings.cut_noise), PrivateSteps.of(settings)
        self._wire = Wire(settings)
        # Batches whose gradients have yet to come, and what was sent of them.
        self._pending: collections.deque[Any] = collections.deque(maxlen=2 if settings.late else 1)
        self._workset = Workset(settings.workset)
        weights, optimizer = half.state_spec
        batch, key, cut = half.model.input_spec[0], tf.TensorSpec([2], tf.int64), half.model.objective.output_spec
        self._forwards = {
            training: tf.function(
                lambda *values, training=training: self._forward(*values, training), [weights, batch, key], False
            )
            for training in (True, False)
        }
        given = [weights, optimizer, batch, key, cut]
        self._weighted = tf.function(self._train, [*given, cut], False)
        self._backward = tf.function(lambda *values: self._train(*values, None), given, False)

    @property
    def further(self) -> int:
        """Number of rows that it alone has, in federated transfer."""
        return self._schedule.further

    def answer(self, phase: str, said: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> tuple[dict, list]:
        """Answers a message of the label party.

        Args:
          phase: "open": whether both have the same rows and version, and how many it has besides; "agree": keys of a
            secure sum; "step": the gradient of an earlier batch, if there was one, and what the next one is; "end": the
            gradient of an epoch's last batches; "predict": a batch to predict.
          said: Epoch, batch and split.
          arrays: The gradient [batch, tokens, cut_size], as of `Wire`.

        Returns:
          What is said, and the batch's activations.

        Raises:
          UserError: If rows, order or version are others, or the gradient is not of the last batch.
        """
        if phase == "open":
            return self._open(said), []
        if phase == "agree" and self._masks is not None:
            self._masks.agree(said["keys"])
            return {}, []
        if arrays:
            self._learn(arrays)
        if phase == "end":
            return {}, []
        if phase not in ("step", "predict"):
            raise UserError(f"there is no step {phase!r} in a vertical federation.")
        at = str(said["split"]), int(said["epoch"]), int(said["batch"])
        batch, is_step = self._batch(*at), phase == "step"
        key = self._noise(*at, batch, self.half.trainable)
        found = self._forwards[is_step](self.half.trainable, batch, key)
        if is_step:
            if at[2] == 0:
                self._pending.clear()
                self._workset.clear()
            self._pending.append((at, key, found))
        if self._masks is not None:
            return {}, [self._masks(found.numpy())]
        return {}, self._wire.pack(found.numpy(), self._schedule.key(f"rounding of {self.name}", *at[1:]))

    def _open(self, said):
        require_version(said)
        own = {"alignment": self._alignment, "rows": self._schedule.rows}
        words = {
            "alignment": "its order of rows is of the intersection {}, that of the party with the labels of {}: align "
            "anew, all together",
            "rows": "it has {} rows, the party with the labels {}: rows must be those in common, in one order "
            "(programs.align)",
        }
        for name, sentence in words.items():
            if said.get(name) != own[name]:
                raise UserError(sentence.format(own[name] or "none", said.get(name) or "none") + ".")
        key = {} if self._masks is None else {"key": self._masks.offer()}
        tokens = self.half.model.objective.output_spec.shape[1]
        return {"tokens": tokens, "further": self.further, **key}

    def _batch(self, split, epoch, batch):
        rows = self._schedule.batch(split, epoch, batch)
        found = {name: tf.constant(array[rows]) for name, array in self.inputs.items()}
        return {**found, models.SEED: tf.constant(self._schedule.key(self.name, epoch, batch))}

    def _noise(self, split, epoch, batch, *held):
        """The noise's key, which follows all that decides what is noised.

        The same message again has the same noise, and tells nothing new; of another table, or of other weights, as when
        an epoch is trained again after another party lost what it saved, who has both cannot subtract it.
        """
        settings, where = self._settings, [epoch, batch]
        if held and (settings.cut_noise or settings.weight_noise):
            where.append(int(models.digest(tf.nest.flatten(held)), 16))
        return tf.constant(secret_key(self._noise_key, f"{split} of {self.name}", *where))

    def _learn(self, arrays):
        if not self._pending:
            raise UserError("a gradient came that is of no batch.")
        at, key, sent = self._pending.popleft()
        batch = self._batch(*at)
        rows = len(next(iter(batch.values())))
        try:
            gradient = self._wire.unpack(arrays, (rows, *self.half.model.objective.output_spec.shape[1:]))
        except ValueError as error:
            raise UserError(f"a gradient came that is not of the batch: {error}.") from None
        # What came is the gradient of the sum over rows, which float16 has digits for.
        gradient = tf.constant(gradient / rows)
        if self._private is not None:  # of activations the gradient needs no noise
            key = self._noise(*at, batch, self.half.trainable, gradient)
        self.half.state = self._backward(*self.half.state, batch, key, gradient)
        self._workset.add((at, key, gradient, sent))
        for _ in range(self._settings.local_updates - 1):
            at, key, gradient, sent = self._workset.take()
            given = *self.half.state, self._batch(*at), key, gradient
            weighs = self._settings.stale_similarity is not None
            self.half.state = self._weighted(*given, sent) if weighs else self._backward(*given)

    def _forward(self, trainable, batch, key, training):
        if self._private is None or not training:
            return self._guard(self.half.model.predict_on_batch((trainable, self.half.fixed), batch, training), key)
        inputs, seed = split_seed(batch)
        return self._guard(for_each_row(lambda *of: self._of_row(trainable, *of)[0], inputs, seed), key)

    def _of_row(self, trainable, inputs, seed):
        return self.half.model.predict_on_batch((trainable, self.half.fixed), {**inputs, models.SEED: seed}, True)

    def _private_gradients(self, trainable, batch, key, gradient):
        """The noised mean of clipped gradients of the rows."""
        inputs, seed = split_seed(batch)

        def of_row(row, seed):
            with tf.GradientTape() as tape:
                tape.watch(trainable)
                found = self._guard.clipped(self._of_row(trainable, row[0], seed))
                loss = self.half.model.loss(found, row[1])
            return gradients_of(tape, loss, trainable)

        of_sum = gradient * tf.cast(tf.shape(gradient)[0], tf.float32)
        return self._private.mean(for_each_row(of_row, (inputs, of_sum), seed), trainable, key)

    def _train(self, trainable, optimizer_state, batch, key, gradient, stale):
        if self._private is not None:
            found = self._private_gradients(trainable, batch, key, gradient)
            return self.half.step(trainable, optimizer_state, found)
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            fresh = self._forward(trainable, batch, key, True)
            if stale is not None:
                gradient = scale_rows(gradient, row_weights([fresh], [stale], self._settings.stale_similarity))
            loss = self.half.model.loss(fresh, gradient)
        return self.half.step(trainable, optimizer_state, tape.gradient(loss, trainable))
