"""Several models of one run: each client has the one with the least loss on its records."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from tff_tx import models
from tff_tx.run.client_loss import ClientLoss


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
        self._losses, self._models_fn = ClientLoss(model, batches_fn), models_fn

    def __call__(self, weights: list, client_id: str) -> list:
        found = self._models_fn(weights)
        losses = self._losses(found, client_id)
        return found[losses.index(min(losses))]
