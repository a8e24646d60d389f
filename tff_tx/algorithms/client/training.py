"""A client's round: its loop over batches, with the hooks of a chain of transforms, and what it sends.

An algorithm's client update calls `Client.train` with the step it takes for each batch, and `Client.result`.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import all_finite
from tff_tx.algorithms.client import personal
from tff_tx.algorithms.client.noise import NO_SEED, split_seed
from tff_tx.algorithms.client.states import SHARES
from tff_tx.algorithms.client.transforms import Context
from tff_tx.runtime.form import CLIENT_STATE, PERSONAL

if TYPE_CHECKING:
    from tff_tx.algorithms.options import Options


class Seen(NamedTuple):
    """What a pass over a client's batches found besides what was learned.

    Attributes:
      losses: Sum of the examples' losses, each batch's as it was before the step on it; float32.
      metrics: Unfinished metrics of the model.
      examples: Number of examples, int64.
      seed: The last batch's, int64 [2], if updates are released with noise: no other client or round has it. Without
        batches it is drawn from the system's randomness.
    """

    losses: tf.Tensor
    metrics: Any
    examples: tf.Tensor
    seed: tf.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Client:
    """A client in a round, with what it got from the server.

    Attributes:
      context: The model and the server's weights.
      options: The parts of the algorithm.
      state: What it retained, where the algorithm has such a state: as `client_state` of `build_client_work` or the
        last round's result made it.
      rounds: In how many rounds it has retained a state, int32 scalar.
      shared: What the server sent besides, the value of a `ServerState`.
    """

    context: Context
    options: Options
    state: Any = None
    rounds: Any = 0
    shared: Any = None

    def with_state(self, retained: Any, first: Callable[[Client], Any]) -> Client:
        """The client with its state: what it retained in earlier rounds, or before these that of `first`."""
        known = retained["rounds"] > 0
        state = tf.nest.map_structure(lambda r, f: tf.where(known, r, f), retained["state"], first(self))
        return dataclasses.replace(self, state=state, rounds=retained["rounds"])

    @classmethod
    def receive(cls, model: tff.learning.models.FunctionalModel, options: Options, received: Any) -> Client:
        """With what `client.work.build_distributor` sends."""
        others = {}
        if not isinstance(received, tff.learning.models.ModelWeights):
            others = {options.transforms[int(i)]: value for i, value in received["others"].items()}
            received = received["model"]
        parts = personal.received(model, tuple(received.trainable), tuple(received.non_trainable))
        return cls(Context(*parts, others), options)

    @property
    def server(self) -> tuple:
        """w_t, the trainable weights that the client got, and its personal ones after them."""
        return self.context.server

    def train(
        self,
        batches: tf.data.Dataset,
        start: Any,
        step: Callable[[Any, tuple, tf.Tensor], Any],
        weights: Callable[[Any], tuple] = lambda learned: learned[0],
    ) -> tuple[Any, Seen]:
        """Goes through a client's batches once.

        Args:
          batches: Dataset of (x, y).
          start: What is learned before the first batch, a structure of tensors.
          step: (learned, gradients, examples) -> learned, for each batch.
          weights: From what is learned to the trainable weights at which gradients are taken.

        Returns:
          What is learned after the last batch, and what was seen.
        """
        context, transforms, model = self.context, self.options.transforms, self.context.model
        gather = transforms.only("gather")

        def body(state, element):
            learned, memory, metrics, num_examples, *seed = state
            part = transforms.part(context, weights(learned[0]), element)

            def whole_batch(learned, gradients, loss, examples):
                own, losses = learned
                gradients = transforms.direction(context, weights(own), gradients, part.x)
                return step(own, gradients, examples), losses + loss * tf.cast(examples, tf.float32)

            learned, memory = gather.gather(context, memory, learned, part, whole_batch)
            metrics = model.update_metrics_state(
                metrics,
                labels=part.y,
                batch_output=tff.learning.models.BatchOutput(part.loss, part.output, part.examples),
            )
            return learned, memory, metrics, num_examples + part.examples, *(_seed_of(part.x) for _ in seed)

        state = (
            (start, tf.constant(0.0)),
            gather.memory(context),
            model.initialize_metrics_state(),
            tf.constant(0, tf.int64),
            *([_drawn_seed()] if transforms.releases else []),
        )
        (learned, losses), _, *seen = transforms.cut(batches).reduce(state, body)
        return learned, Seen(losses, *seen)

    @property
    def num_shared(self) -> int:
        """Number of weights that it trains and shares: the first ones."""
        return len(self.server) - personal.num_personal(self.context.model)

    def result(self, update: Any, seen: Seen, state: Any = None, shares: Any = None) -> tuple:
        """(what leaves the client, its unfinished metrics), and then, if there is any, what else there is by name.

        Which is what it retains, and its share in the value of a `ServerState`.

        The weight is the number of examples, or 1 for all; an update that is not finite becomes zero, of weight and
        metrics 0. With `Options.sends_loss` the weight is `OrderedDict(weight, loss)`, with the mean of the examples'
        losses before the steps on them: with one pass over the data the loss on examples not trained on yet, the
        progressive validation of Blum, Kalai and Langford 1999, "Beating the Hold-Out".

        Args:
          update: Of the weights that the client trains.
          seen: From `train`.
          state: Its new state, of an algorithm whose clients have one. With an update that is not finite it has no
            effect.
          shares: Its share in the sum by which the server's state goes; zeros with an update that is not finite.
        """
        shared = self.num_shared
        finite = all_finite(update)
        update = tf.nest.map_structure(lambda u: tf.where(finite, u, tf.zeros_like(u)), update)
        weight = tf.cast(seen.examples, tf.float32) if self.options.weighted else tf.constant(1.0)
        weight *= tf.cast(finite, tf.float32)
        own = tuple(w - u for w, u in zip(self.server[shared:], update[shared:]))
        update, weight = self.options.transforms.release(update[:shared], weight, seen.seed)
        metrics = tf.nest.map_structure(
            lambda m, zero: tf.where(finite, m, zero), seen.metrics, self.context.model.initialize_metrics_state()
        )
        if self.options.sends_loss:
            mean_loss = tf.math.divide_no_nan(seen.losses, tf.cast(seen.examples, tf.float32))
            weight = collections.OrderedDict(weight=weight, loss=tf.where(finite, mean_loss, 0.0))
        return (
            tff.learning.templates.ClientResult(update=update, update_weight=weight),
            metrics,
            *self._besides(own, state, shares, finite),
        )

    def _besides(self, own: tuple, state: Any, shares: Any, finite: tf.Tensor) -> list[dict[str, Any]]:
        found = collections.OrderedDict()
        if own:
            found[PERSONAL] = own
        if state is not None:
            after = tf.nest.map_structure(lambda new, old: tf.where(finite, new, old), state, self.state)
            rounds = self.rounds + tf.cast(finite, tf.int32)
            found[CLIENT_STATE] = collections.OrderedDict(rounds=rounds, state=after)
        if shares is not None:
            found[SHARES] = tf.nest.map_structure(lambda share: tf.where(finite, share, tf.zeros_like(share)), shares)
        return [found] if found else []


def zeros(model: tff.learning.models.FunctionalModel) -> tuple[tf.Tensor, ...]:
    """Zeros of the shapes of the shared weights that clients train."""
    return tuple(tf.zeros(w.shape, w.dtype) for w in model.initial_weights[0])


def dense(gradients: tuple, weights: tuple) -> tuple[tf.Tensor, ...]:
    """Gradients as tensors of the weights' shapes, whether `tf.IndexedSlices`, or None of unused weights."""
    return tuple(tf.zeros_like(w) if g is None else tf.convert_to_tensor(g) for g, w in zip(gradients, weights))


def _drawn_seed():
    # Seeds come with batches; the noise of clients that have none must not be the same in every round.
    most = tf.constant(tf.int64.max)
    return tf.raw_ops.RandomUniformInt(shape=[2], minval=-most, maxval=most, seed=0, seed2=0)


def _seed_of(x):
    _, seed = split_seed(x)
    if seed is None:
        raise ValueError(NO_SEED)
    return tf.cast(tf.ensure_shape(seed, [2]), tf.int64)
