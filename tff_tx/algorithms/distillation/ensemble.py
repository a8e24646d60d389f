"""A student that learns from the mean of teachers' logits on data without labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import runtime
from tff_tx.config.algorithm import TEACHERS
from tff_tx.core.errors import UserError, setting
from tff_tx.models import IGNORED, SEED, TransformerModel, check_predicts_classes, distillation_loss


@dataclasses.dataclass(frozen=True)
class EnsembleDistillation:
    """How the server distills (FedDF, Lin et al. 2020, https://arxiv.org/abs/2006.07242, Algorithm 1).

    A step is along the gradient of KL(softmax(mean of the teachers' logits) || softmax(student's logits)) over a batch.
    As in their experiments it is Adam's, with a rate that falls to 0 along half a cosine; each round begins anew.

    Attributes:
      steps: In each round; 0: none, which is the algorithm of the groups as it is.
      learning_rate: The first.
      teachers: Whose logits are averaged: "clients", of all clients' models of the round, is FedDF; "groups", of all
        groups' averages of them, is for servers that may see averages only.

    Raises:
      UserError: At construction, if a value has no meaning.
    """

    steps: int = 100
    learning_rate: float = 1e-3
    teachers: str = "clients"

    def __post_init__(self):
        if self.steps < 0:
            raise UserError(f"{setting('ensemble.steps')}={self.steps} has to be 0 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"{setting('ensemble.learning_rate')}={self.learning_rate} has to be above 0.")
        if self.teachers not in TEACHERS:
            raise UserError(f"{setting('ensemble.teachers')}={self.teachers} is none of {', '.join(TEACHERS)}.")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))


class Lesson:
    """A round's batches of public data, and the mean of the teachers' logits on them.

    Teachers are heard one by one, so that no two of their models need to be held at a time.

    Args:
      batches: Of (x, y). Of `y` is used only which tokens have a label, as others' logits were never trained.
    """

    def __init__(self, batches: Sequence[tuple]):
        self.batches = list(batches)
        self.number = 0
        self._sums: list[np.ndarray] = []

    def hear(self, logits: Sequence[np.ndarray]) -> None:
        """Counts a teacher, by its logits on each batch."""
        if not self.number:
            self._sums = [np.array(batch) for batch in logits]
        else:
            for total, batch in zip(self._sums, logits):
                total += batch
        self.number += 1

    @property
    def logits(self) -> list[np.ndarray]:
        """The mean of the teachers' logits, a batch each."""
        return [total / np.float32(self.number) for total in self._sums]


class Student:
    """A model that is taught; it can also teach.

    Args:
      model: With logits of one more dimension than labels.
      distillation: How it is taught.

    Raises:
      UserError: If the model does not predict classes.
    """

    def __init__(self, model: TransformerModel, distillation: EnsembleDistillation):
        check_predicts_classes(model)
        self._distillation = distillation
        self._adam = tff.learning.optimizers.build_adam(distillation.learning_rate)
        trainable, frozen = model.initial_weights
        self._specs = tuple(tf.TensorSpec(w.shape, w.dtype) for w in trainable)
        weights_spec = self._specs, tuple(tf.TensorSpec(w.shape, w.dtype) for w in frozen)
        x_spec, y_spec = model.input_spec
        logits_spec = tf.TensorSpec([None] * (y_spec.shape.rank + 1), tf.float32)
        state_spec = tf.nest.map_structure(_spec, self._adam.initialize(self._specs))

        def logits(weights, x):
            return tf.cast(model.predict_on_batch(weights, x, training=False), tf.float32)

        def step(trainable, frozen, state, x, y, taught, rate, number):
            if isinstance(x, dict) and SEED in x:  # other dropout in another pass over the same batch
                x = type(x)(x, **{SEED: tf.random.experimental.stateless_fold_in(x[SEED], number)})
            # Of one label an example even that may be missing; of tokens, padding is told by its label.
            counted = tf.not_equal(y, IGNORED) if y.shape.rank > 1 else tf.ones_like(y, tf.bool)
            with tf.GradientTape() as tape:
                tape.watch(trainable)
                output = model.predict_on_batch((trainable, frozen), x, training=True)
                loss = distillation_loss(taught, output, counted)
            gradients = tape.gradient(loss, trainable)
            state = type(state)(state, learning_rate=rate)
            state, trainable = self._adam.next(state, trainable, gradients)
            return trainable, state, loss

        scalars = tf.TensorSpec([]), tf.TensorSpec([], tf.int64)
        self._logits = runtime.step_function(logits, weights_spec, x_spec, internal=True)
        step_specs = (*weights_spec, state_spec, x_spec, y_spec, logits_spec, *scalars)
        self._step = runtime.step_function(step, *step_specs, internal=True)

    def logits(self, weights: tff.learning.models.ModelWeights, batches: Sequence[tuple]) -> list[np.ndarray]:
        """The logits of weights on each batch, without dropout."""
        parts = tuple(weights.trainable), tuple(weights.non_trainable)
        return [self._logits(parts, x).numpy() for x, _ in batches]

    def learn(self, weights: tff.learning.models.ModelWeights, lesson: Lesson) -> tuple[Any, float]:
        """Trains on a lesson, over and over until the steps are used up.

        Args:
          weights: Of the model, to begin with.
          lesson: With at least one batch and one teacher.

        Returns:
          The model's new `ModelWeights`, and the mean loss over the steps, nats.
        """
        trainable, frozen = tuple(weights.trainable), tuple(weights.non_trainable)
        state, losses, taught = self._adam.initialize(self._specs), [], lesson.logits
        for number in range(self._distillation.steps):
            at = number % len(lesson.batches)
            rate = self._distillation.rate(number)
            trainable, state, loss = self._step(
                trainable, frozen, state, *lesson.batches[at], taught[at], np.float32(rate), np.int64(number)
            )
            losses.append(float(loss))
        return tff.learning.models.ModelWeights(tuple(w.numpy() for w in trainable), frozen), float(np.mean(losses))


def _spec(leaf):
    tensor = tf.convert_to_tensor(leaf)
    return tf.TensorSpec(tensor.shape, tensor.dtype)
