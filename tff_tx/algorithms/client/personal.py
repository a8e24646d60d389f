"""Personal weights: a client trains them along with the shared ones, and they never leave it.

The server has them among the weights that it does not train, as the values that a client begins with, and never changes
them: so no aggregator, clip, noise, code or secure sum sees them. `runtime.PersonalWeights` gives a client its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff


def num_personal(model: tff.learning.models.FunctionalModel) -> int:
    """Number of the model's personal weights, the last ones of those that are not trainable."""
    return getattr(model, "num_personal", 0)


@dataclasses.dataclass(frozen=True)
class ModelAtClient:
    """A model with personal weights as a client trains it: they follow the other trainable weights.

    Attributes:
      model: The model as the server has it.
    """

    model: tff.learning.models.FunctionalModel

    def predict_on_batch(self, weights: Any, x: Any, training: bool = True) -> tf.Tensor:
        """The predictions for (weights that the client trains, others)."""
        trained, others = weights
        first = len(trained) - num_personal(self.model)
        return self.model.predict_on_batch((trained[:first], (*others, *trained[first:])), x, training=training)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def received(model: tff.learning.models.FunctionalModel, trainable: tuple, others: tuple) -> tuple[Any, tuple, tuple]:
    """(model, trained weights, other weights) at a client, of what the server sends."""
    if not (number := num_personal(model)):
        return model, trainable, others
    first = len(others) - number
    return ModelAtClient(model), (*trainable, *others[first:]), others[:first]
