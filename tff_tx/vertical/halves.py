"""One side of the cut: a functional model, its weights and its optimizer."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.algorithms.optimizers import build_optimizer


class Half:
    """A model that a party trains, with weights and optimizer as values.

    Attributes:
      model: A `tff_tx.models.TransformerModel`.
      trainable, fixed: Its weights.
      optimizer_state: Of its optimizer.
    """

    def __init__(self, model: models.TransformerModel, optimizer: str, learning_rate: float):
        self.model = model
        self._optimizer = build_optimizer(optimizer, learning_rate)
        self.trainable, self.fixed = (tuple(map(tf.constant, part)) for part in model.initial_weights)
        specs = tuple(tf.TensorSpec(w.shape, w.dtype) for w in self.trainable)
        self.optimizer_state = tf.nest.map_structure(tf.constant, self._optimizer.initialize(specs))

    @property
    def state(self) -> Any:
        """What a checkpoint holds."""
        return self.trainable, self.optimizer_state

    @state.setter
    def state(self, value: Any) -> None:
        self.trainable, self.optimizer_state = value

    @property
    def state_spec(self) -> Any:
        """Its `tf.TensorSpec`s."""
        return tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), self.state)

    def step(self, trainable: Any, optimizer_state: Any, gradients: Any) -> tuple[Any, Any]:
        """(weights, optimizer state) after a step; part of a graph."""
        dense = [tf.zeros_like(w) if g is None else tf.convert_to_tensor(g) for w, g in zip(trainable, gradients)]
        optimizer_state, trainable = self._optimizer.next(optimizer_state, tuple(trainable), tuple(dense))
        return trainable, optimizer_state


def cut_objective(tokens: int, size: int) -> models.Objective:
    """The objective of a bottom: the inner product of what crosses the cut with the gradient that comes back.

    Its gradient in the bottom's weights is the vector-Jacobian product of backpropagation.

    Args:
      tokens: Tokens of a row.
      size: Their width.
    """
    spec = tf.TensorSpec([None, tokens, size])
    return models.Objective(
        "vertical",
        spec,
        lambda output, gradient, sample_weight=None: tf.reduce_sum(output * gradient),
        lambda predictions, labels, loss: collections.OrderedDict(),
        lambda sums: sums,
        output_spec=spec,
    )


def input_spec(inputs: dict[str, np.ndarray]) -> dict[str, tf.TensorSpec]:
    """Specs of a batch of a party's inputs, with a seed."""
    specs = {name: tf.TensorSpec([None, *array.shape[1:]], array.dtype) for name, array in inputs.items()}
    return {**specs, models.SEED: tf.TensorSpec([2], tf.int64)}
