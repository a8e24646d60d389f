"""A client's step as a chain of transforms, in the manner of optax.

A transform is a subclass of `ClientTransform` that overrides one or two hooks. Hooks have fixed places in a client's
round, so transforms with different hooks commute bit for bit:

    for parts of batches:                        cut
      loss = model.loss + terms                  loss          all, in the chain's order
      g = gradient of the loss                   gradients     one at most
      if the batch is complete:                  gather        one at most
        g = g + noise                            privatize     with `gradients`
        g = g + terms                            direction     all, in the chain's order
        w = optimizer(w, g)
    update, weight = release(w_t - w, weight)    release       all, in the chain's order
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.capabilities import CLIENT_TRANSFORMS
from tff_tx.core.errors import UserError


class Context(NamedTuple):
    """What hooks see of a client's round.

    Attributes:
      model: The functional model.
      server: w_t, the trainable weights that the client got.
      frozen: The other weights.
      received: What else the server sent, by the transform that broadcasts it.
    """

    model: tff.learning.models.FunctionalModel
    server: tuple
    frozen: tuple
    received: dict[ClientTransform, Any]


class Part(NamedTuple):
    """Results on a batch, or on a part of one.

    Attributes:
      gradients: Of the trainable weights, dense or `tf.IndexedSlices`.
      loss: The model's mean loss, float32 scalar.
      examples: int64 scalar.
      x: Inputs.
      y: Labels.
      output: Predictions.
      marks: Further components of the dataset's elements, from `cut`.
      unit: As of the transform that computed the gradients.
    """

    gradients: tuple
    loss: tf.Tensor
    examples: tf.Tensor
    x: Any
    y: Any
    output: tf.Tensor
    marks: list
    unit: int | None


class Broadcast(NamedTuple):
    """A value that the server computes from its model and sends with it.

    Attributes:
      initialize: ( -> S), the state.
      next: (S, ModelWeights -> (S, value)).
    """

    initialize: tff.Computation
    next: tff.Computation


class ClientTransform:
    """One change of the client's step; itself, no change.

    Attributes:
      requires: Capabilities that an algorithm must have.
      unit: If not None, gradients are sums over units of so many examples, already divided by the number of units in a
        whole batch: those of parts are added up. If None they are means.
    """

    requires: frozenset[str] = frozenset({CLIENT_TRANSFORMS})
    unit: int | None = None

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing, and is left out of chains."""
        return False

    def check(self, model: tff.learning.models.FunctionalModel, options: Any) -> None:
        """Checks that it fits; raises UserError if not."""

    def broadcast(self, weights_type: tff.Type) -> Broadcast | None:
        """What the server must send besides the model of this `ModelWeights` type."""

    def cut(self, batches: tf.data.Dataset, unit: int) -> tf.data.Dataset:
        """Cuts batches (x, y) into parts (x, y, *marks) of multiples of `unit` examples."""
        return batches

    def loss(self, context: Context, x: Any, y: Any, output: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate, from the one so far; float32 scalar."""
        return loss

    def gradients(self, context: Context, trained: tuple, x: Any, y: Any, loss_fn: Callable) -> tuple:
        """(gradients, mean loss of the model, predictions) on a batch or part.

        `loss_fn` is `loss` of the chain, without context.
        """
        with tf.GradientTape() as tape:
            tape.watch(trained)
            output = context.model.predict_on_batch((trained, context.frozen), x, training=True)
            loss = context.model.loss(output, y)
            total = loss_fn(x, y, output, loss)
        return tape.gradient(total, trained), loss, output

    def memory(self, context: Context) -> Any:
        """The state of `gather` at the start, a structure of tensors."""
        return ()

    def gather(self, context: Context, memory: Any, learned: Any, part: Part, step: Callable) -> tuple[Any, Any]:
        """(learned, memory) after a part; `step(learned, gradients, loss, examples)` is the optimizer's step."""
        return step(learned, part.gradients, part.loss, part.examples), memory

    def privatize(self, gradients: tuple, x: Any) -> tuple:
        """The gradients of a whole batch as the optimizer may see them; `x` has the batch's seed."""
        return gradients

    def direction(self, context: Context, trained: tuple, gradients: tuple) -> tuple:
        """What the optimizer gets as gradients."""
        return gradients

    def release(self, update: Any, weight: tf.Tensor, seed: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """(update, weight) as they leave the client; `seed` is int64 [2], of this client and round alone."""
        return update, weight


class Chain(tuple):
    """Transforms together, each hook composed of theirs. Made by `chain`."""

    def overriding(self, hook: str) -> list[ClientTransform]:
        """The transforms that define this hook."""
        return [t for t in self if getattr(type(t), hook) is not getattr(ClientTransform, hook)]

    def only(self, hook: str) -> ClientTransform:
        """The one transform that defines this hook, or the identity."""
        return next(iter(self.overriding(hook)), ClientTransform())

    @property
    def releases(self) -> bool:
        """Whether updates change before they leave the client."""
        return bool(self.overriding("release"))

    def broadcasts(self, weights_type: tff.Type) -> dict[ClientTransform, Broadcast]:
        """What the server must send, by transform."""
        found = ((transform, transform.broadcast(weights_type)) for transform in self)
        return {transform: broadcast for transform, broadcast in found if broadcast is not None}

    def cut(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return self.only("cut").cut(batches, self.only("gradients").unit or 1)

    def part(self, context: Context, trained: tuple, element: tuple) -> Part:
        """Results on an element of the cut dataset."""
        x, y, *marks = element
        differentiator = self.only("gradients")

        def loss_fn(x, y, output, loss):
            for transform in self:
                loss = transform.loss(context, x, y, output, loss)
            return loss

        gradients, loss, output = differentiator.gradients(context, trained, x, y, loss_fn)
        examples = tf.shape(output, tf.int64)[0]
        return Part(gradients, loss, examples, x, y, output, marks, differentiator.unit)

    def direction(self, context: Context, trained: tuple, gradients: tuple, x: Any) -> tuple:
        """What the optimizer gets, of the gradients of a whole batch."""
        gradients = self.only("privatize").privatize(gradients, x)
        for transform in self:
            gradients = transform.direction(context, trained, gradients)
        return gradients

    def release(self, update: Any, weight: tf.Tensor, seed: tf.Tensor) -> tuple[Any, tf.Tensor]:
        for transform in self:
            update, weight = transform.release(update, weight, seed)
        return update, weight


def chain(*transforms: ClientTransform) -> Chain:
    """Composes transforms, for `Options.transforms`: `chain(proximal(0.1), dp_sgd(1.0, 0.8, 16), accumulate(4))`.

    Raises:
      UserError: If two of them define a hook of which there is one at most.
    """
    composed = Chain(transform for transform in transforms if not transform.is_identity)
    for hook in ("cut", "gradients", "gather", "privatize"):
        found = [type(transform).__name__ for transform in composed.overriding(hook)]
        if len(found) > 1:
            raise UserError(f"{' and '.join(found)} cannot be in one chain of client transforms: remove one of them.")
    return composed
