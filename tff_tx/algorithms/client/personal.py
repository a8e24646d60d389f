"""Personal weights: a client trains them along with the shared ones, and they never leave it.

The server has them among the weights that it does not train, as the values that a client begins with, and never changes
them: so no aggregator, clip, noise, code or secure sum sees them. `runtime.PersonalWeights` gives a client its own;
where no hook does, clients have no state and begin with these values in each round.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_federated as tff

if TYPE_CHECKING:
    from tff_tx.algorithms.client.training import Client, Seen


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


def shared_part(one: Client) -> slice:
    """Which of the weights that a client trains are shared; its personal ones follow."""
    return slice(0, len(one.server) - num_personal(one.context.model))


def personal_part(one: Client) -> slice:
    """Which of the weights that a client trains are personal."""
    return slice(shared_part(one).stop, len(one.server))


def train_part(
    one: Client,
    weights: tuple,
    batches: tf.data.Dataset,
    rate: tf.Tensor,
    part: slice = slice(None),
    strength: float = 0.0,
) -> tuple[tuple, Seen]:
    """Takes steps of the clients' optimizer on a part of the weights; the others stay as they are.

    Args:
      one: The client.
      weights: All weights that it may train, the shared ones first.
      batches: Dataset of (x, y).
      rate: Learning rate.
      part: Positions of the weights to train.
      strength: lambda of a term lambda/2 |w - w_t|^2 that pulls them towards those that the server sent.

    Returns:
      All weights, and what was seen.
    """
    optimizer = one.options.client_optimizer_fn(rate)

    def step(learned, gradients, examples):
        del examples
        (weights, state), gradients = learned, tuple(gradients[part])
        if strength:
            pairs = zip(gradients, weights[part], one.server[part])
            gradients = tuple(tf.convert_to_tensor(g) + strength * (w - w_t) for g, w, w_t in pairs)
        state, after = optimizer.next(state, weights[part], gradients)
        return (*weights[:first], *after, *weights[first + len(after) :]), state

    first = part.start or 0
    start = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, weights[part]))
    (weights, _), seen = one.train(batches, (weights, start), step)
    return weights, seen
