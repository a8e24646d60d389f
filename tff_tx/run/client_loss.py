"""The loss of weights on a client's records, by which a client chooses among models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import tensorflow as tf

from tff_tx import models, runtime


class ClientLoss:
    """Sums losses over a client's records.

    Args:
      model: Of the weights.
      batches_fn: From a client id (string scalar tensor) to its batches (x, y), traceable.
    """

    def __init__(self, model: models.TransformerModel, batches_fn: Callable[[tf.Tensor], tf.data.Dataset]):
        trainable, others = model.initial_weights
        specs = [tf.TensorSpec(w.shape, w.dtype) for w in (*trainable, *others)]

        def step(weights, total, batch):
            x, y = batch
            parts = tuple(weights[: len(trainable)]), tuple(weights[len(trainable) :])
            output = model.predict_on_batch(parts, x, training=False)
            return total + model.loss(output, y) * tf.cast(tf.shape(output)[0], tf.float32)

        self._reader = runtime.ClientReader(batches_fn)
        self._step = runtime.step_function(step, specs, tf.TensorSpec([]), self._reader.element_spec, internal=True)

    def __call__(self, candidates: Sequence[list], client_id: str) -> list[float]:
        """The sum for each of several models, by all weights of each; 0 for clients without records."""
        totals = [tf.constant(0.0)] * len(candidates)
        for batch in self._reader(client_id):
            totals = [self._step(list(one), total, batch) for one, total in zip(candidates, totals)]
        return [float(total) for total in totals]
