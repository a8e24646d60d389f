"""kNN-Per (Marfoq et al. 2022): a client's own model is the global one and a memory of the client's records.

With phi the global model's features, what its head takes, client m has a memory of pairs (phi(x_i), y_i) of its
records. Of the k pairs whose features are nearest to phi(x), by Euclidean distance d,

    p_kNN(y | x) is proportional to the sum of exp(-d(phi(x), phi(x_i))) over those with y_i = y
    p_m(y | x) = lambda_m p_kNN(y | x) + (1 - lambda_m) p_global(y | x)

where lambda_m has the least loss on records of the client's own that are not in its memory (Algorithm 1 and equations 4
to 6 of https://arxiv.org/abs/2111.09360). Nothing is trained, and nothing leaves the client: it works for clients that
training has never seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import models, runtime
from tff_tx.run.pooled_features import PooledFeatures

WEIGHTS = tuple(round(0.1 * i, 1) for i in range(11))
"""Of which lambda_m is chosen."""


@dataclasses.dataclass(frozen=True)
class MemoryModel:
    """A model with a memory: its last weights are the features, labels (-1: none) and lambda of a client.

    Attributes:
      features: Of the global model.
      neighbors: k.
      capacity: Records that a memory has room for.
    """

    features: PooledFeatures
    neighbors: int
    capacity: int

    @property
    def whole(self) -> models.TransformerModel:
        """The global model."""
        return self.features.model

    @property
    def initial_weights(self) -> tuple[tuple, tuple]:
        """Those of the global model, and an empty memory of lambda 0 behind the others."""
        trainable, others = self.whole.initial_weights
        empty = np.zeros([0, self.features.width], np.float32), np.zeros([0], np.int32)
        return trainable, (*others, *self.memory(*empty, 0.0))

    def memory(self, features: np.ndarray, labels: np.ndarray, weight: float) -> list[np.ndarray]:
        """The last weights: features [n, width] and labels [n] of at most `capacity` records, and lambda."""
        empty = self.capacity - len(labels)
        return [
            np.pad(features, ((0, empty), (0, 0))),
            np.pad(labels, (0, empty), constant_values=-1),
            np.float32(weight),
        ]

    def probabilities(self, weights: tuple, x: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """(p_kNN, p_global) of a batch, float32 [batch, classes] each; p_kNN is 0 with an empty memory."""
        trainable, (*others, memory, labels, _) = weights
        parts = trainable, tuple(others)
        logits = tf.cast(self.whole.predict_on_batch(parts, x, training=False), tf.float32)
        phi = self.features(parts, x)
        squares = tf.reduce_sum(phi**2, 1)[:, tf.newaxis] + tf.reduce_sum(memory**2, 1)
        distances = tf.sqrt(tf.maximum(squares - 2 * tf.matmul(phi, memory, transpose_b=True), 0.0))
        distances = tf.where(labels >= 0, distances, np.inf)
        nearest, which = tf.math.top_k(-distances, min(self.neighbors, self.capacity))
        # The same factor in all terms, which the nearest one sets, leaves none of them too small for a float.
        shares = tf.where(tf.math.is_finite(nearest), tf.exp(nearest - nearest[:, :1]), 0.0)
        shares = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, 1, keepdims=True))
        of_class = tf.one_hot(tf.gather(labels, which), tf.shape(logits)[-1])
        return tf.reduce_sum(shares[:, :, tf.newaxis] * of_class, 1), tf.nn.softmax(logits)

    def predict_on_batch(self, weights: tuple, x: Any, training: bool = False) -> tf.Tensor:
        """The logarithm of p_m: logits, float32 [batch, classes]."""
        del training
        near, shared = self.probabilities(weights, x)
        weight = weights[1][-1]
        # Of an example that is certain to be of another class, the loss is large but finite.
        return tf.math.log(tf.maximum(weight * near + (1 - weight) * shared, 1e-12))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


class KNNPer:
    """Gives a client's weights of a `MemoryModel`: those given, and its memory; the `own_fn` of an `Evaluator`.

    Args:
      model: The model.
      memory_fn: From a client id (string scalar tensor) to the batches (x, y) of its memory, traceable.
      first_fn, chosen_fn: The same of the memory by which lambda is chosen, and of the records that choose it. Where
        there are none, it is 0.

    Attributes:
      weights: lambda by client, of those that have chosen.
    """

    def __init__(self, model: MemoryModel, memory_fn: Callable, first_fn: Callable, chosen_fn: Callable):
        specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), model.initial_weights)
        self._model, self.weights = model, {}
        self._readers = [runtime.ClientReader(fn) for fn in (memory_fn, first_fn, chosen_fn)]
        element = self._readers[0].element_spec
        parts = (specs[0], specs[1][:-3])
        self._features = runtime.step_function(lambda w, b: model.features(w, b[0]), parts, element, internal=True)
        self._losses = runtime.step_function(self._losses_of, specs, element, internal=True)

    def _losses_of(self, weights, batch):
        """Sums of a batch's losses, float32 [lambdas]."""
        (x, y), grid = batch, tf.constant(WEIGHTS)
        near, shared = (tf.gather(p, y, batch_dims=1) for p in self._model.probabilities(weights, x))
        mixed = grid * near[:, tf.newaxis] + (1 - grid) * shared[:, tf.newaxis]
        return -tf.reduce_sum(tf.math.log(tf.maximum(mixed, 1e-12)), 0)

    def __call__(self, weights: list, client_id: str) -> list:
        number, shared = len(self._model.initial_weights[0]), weights[:-3]
        parts = tuple(shared[:number]), tuple(shared[number:])
        memory, first = (self._read(reader, parts, client_id) for reader in self._readers[:2])
        tried = parts[0], (*parts[1], *map(tf.convert_to_tensor, self._model.memory(*first, 0.0)))
        losses = sum((self._losses(tried, batch).numpy() for batch in self._readers[2](client_id)), np.zeros(1))
        weight = self.weights[client_id] = WEIGHTS[int(losses.argmin())] if len(first[1]) else 0.0
        return [*shared, *map(tf.convert_to_tensor, self._model.memory(*memory, weight))]

    def _read(self, reader, parts, client_id):
        """(features, labels) of a client's records, as many as a memory has room for."""
        found = [(self._features(parts, batch).numpy(), batch[1].numpy()) for batch in reader(client_id)]
        if not found:
            return np.zeros([0, self._model.features.width], np.float32), np.zeros([0], np.int32)
        features, labels = (np.concatenate(part)[: self._model.capacity] for part in zip(*found))
        return features, labels.astype(np.int32)

    def choices(self) -> list[str]:
        """A line on what clients have chosen."""
        found = list(self.weights.values())
        none = sum(not weight for weight in found)
        return [
            f"neighbors count for {np.mean(found):.2f} on average, as clients choose; {none} of {len(found)} clients "
            "have the global model alone"
        ]


def memory_model(model: models.TransformerModel, neighbors: int, capacity: int) -> MemoryModel:
    """A `MemoryModel` of a classifier whose head alone is trainable, made with `frozen_dropout=False`.

    Raises:
      UserError: If examples do not have one class each, or the model's features have no fixed size.
    """
    return MemoryModel(PooledFeatures(model, "evaluate.neighbors", neighbors), neighbors, capacity)
