"""Several models of one run: each client has the one with the least loss on its records."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from tff_tx import models, runtime


class Chosen:
    """Gives a client's weights, of those of several models; the `own_fn` of an `Evaluator`.

    Args:
      model: That which all of them are.
      batches_fn: From a client id (string scalar tensor) to its batches (x, y) to choose by, traceable.
      models_fn: From the weights that an evaluator is given to all weights of each model.
    """

    def __init__(
        self,
        model: models.TransformerModel,
        batches_fn: Callable[[tf.Tensor], tf.data.Dataset],
        models_fn: Callable[[list], list[list]],
    ):
        trainable, others = model.initial_weights
        specs = [tf.TensorSpec(w.shape, w.dtype) for w in (*trainable, *others)]

        def step(weights, total, batch):
            x, y = batch
            parts = tuple(weights[: len(trainable)]), tuple(weights[len(trainable) :])
            output = model.predict_on_batch(parts, x, training=False)
            return total + model.loss(output, y) * tf.cast(tf.shape(output)[0], tf.float32)

        self._reader, self._models_fn = runtime.ClientReader(batches_fn), models_fn
        self._step = runtime.step_function(step, specs, tf.TensorSpec([]), self._reader.element_spec, internal=True)

    def __call__(self, weights: list, client_id: str) -> list:
        found = self._models_fn(weights)
        totals = [tf.constant(0.0)] * len(found)
        for batch in self._reader(client_id):
            totals = [self._step(list(one), total, batch) for one, total in zip(found, totals)]
        return found[min(range(len(found)), key=lambda k: float(totals[k]))]
