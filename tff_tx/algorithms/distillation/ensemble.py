"""Distillation on the server (FedDF, Lin et al. 2020, https://arxiv.org/abs/2006.07242, Algorithm 1).

A step is along the gradient of KL(softmax(mean of the teachers' logits) || softmax(student's logits)) over a batch. As
in their experiments it is Adam's, with a rate that falls to 0 along half a cosine; each round begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import runtime
from tff_tx.config.algorithm import EnsembleConfig
from tff_tx.models import IGNORED, SEED, TransformerModel, check_predicts_classes, distillation_loss


class PseudoLabels:
    """A round's batches of public data, and the mean of the teachers' logits on them.

    Teachers are added one by one, so that no two of their models need to be held at a time.

    Args:
      batches: Of (x, y). Of `y` is used only which tokens have a label, as others' logits were never trained.
    """

    def __init__(self, batches: Sequence[tuple]):
        self.batches = list(batches)
        self.number = 0
        self._sums: list[np.ndarray] = []

    def add(self, logits: Sequence[np.ndarray]) -> None:
        """Adds a teacher, by its logits on each batch."""
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
    """A model that is distilled into; it can also be a teacher.

    Args:
      model: With logits of one more dimension than labels.
      distillation: Steps and learning rate.

    Raises:
      UserError: If the model does not predict classes.
    """

    def __init__(self, model: TransformerModel, distillation: EnsembleConfig):
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
            # Of one label an example even that may be missing; of tokens, padding is known by its label.
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

    def learn(self, weights: tff.learning.models.ModelWeights, pseudo_labels: PseudoLabels) -> tuple[Any, float]:
        """Trains on pseudo-labels, over and over until the steps are used up.

        Args:
          weights: Of the model, to begin with.
          pseudo_labels: With at least one batch and one teacher.

        Returns:
          The model's new `ModelWeights`, and the mean loss over the steps, nats.
        """
        trainable, frozen = tuple(weights.trainable), tuple(weights.non_trainable)
        state, losses, taught = self._adam.initialize(self._specs), [], pseudo_labels.logits
        steps, peak = self._distillation.steps, self._distillation.learning_rate
        for number in range(steps):
            at, rate = number % len(pseudo_labels.batches), peak * 0.5 * (1.0 + math.cos(math.pi * number / steps))
            trainable, state, loss = self._step(
                trainable, frozen, state, *pseudo_labels.batches[at], taught[at], np.float32(rate), np.int64(number)
            )
            losses.append(float(loss))
        return tff.learning.models.ModelWeights(tuple(w.numpy() for w in trainable), frozen), float(np.mean(losses))


def _spec(leaf):
    tensor = tf.convert_to_tensor(leaf)
    return tf.TensorSpec(tensor.shape, tensor.dtype)
