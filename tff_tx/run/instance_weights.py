"""Instance-wise weights of FedDPA (Yang et al. 2024): the share of a client's own adapter by how alike an input is.

With phi the vector that the global model's head takes of an input, and S of the client's training records, drawn at
random, its own adapter has for the input x the share

    alpha(x) = alpha * mean over these records x_i of cos(phi(x), phi(x_i))

and the shared one the rest (https://arxiv.org/abs/2403.19211); a mean below 0 counts as 0. Weights are
linear in alpha, so that those for an input lie between the global model's and the client's own ones.
"""

from __future__ import annotations

import collections
import dataclasses
import types
import zlib
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import models, runtime
from tff_tx.run.pooled_features import PooledFeatures


@dataclasses.dataclass(frozen=True)
class InstanceModel:
    """A model whose weights differ from input to input.

    Its last weights are the client's own ones, the features of `examples` of its records, and how many these are.

    Attributes:
      features: Of the global model.
      positions: Of the weights that clients have of their own, among all.
      share: alpha.
      examples: S.
    """

    features: PooledFeatures
    positions: tuple[int, ...]
    share: float
    examples: int

    @property
    def initial_weights(self) -> tuple[tuple, tuple]:
        """Those of the global model, and as a client's own ones the same, without records."""
        trainable, others = self.features.model.initial_weights
        weights = [*trainable, *others]
        own = [weights[i] for i in self.positions]
        return trainable, (*others, *own, np.zeros([self.examples, self.features.width], np.float32), np.int32(0))

    def shares(self, weights: tuple, x: Any) -> tf.Tensor:
        """alpha(x) of each input of a batch, float32 [batch]."""
        trainable, (*others, records, number) = weights
        phi = self.features((trainable, tuple(others[: len(others) - len(self.positions)])), x)
        cosines = tf.matmul(tf.math.l2_normalize(phi, 1), tf.math.l2_normalize(records, 1), transpose_b=True)
        # Records that are not there are zeros, and their cosines too.
        mean = tf.math.divide_no_nan(tf.reduce_sum(cosines, 1), tf.cast(number, tf.float32))
        return self.share * tf.clip_by_value(mean, 0.0, 1.0)

    def predict_on_batch(self, weights: tuple, x: Any, training: bool = False) -> tf.Tensor:
        """The predictions, of one input after another."""
        del training
        trainable, others = weights
        count, model = len(self.positions), self.features.model
        first = len(others) - count - 2
        shared, own = [*trainable, *others[:first]], others[first : first + count]
        spec, _ = model.input_spec
        batched = {name: x[name] for name, of in spec.items() if of.shape.rank and of.shape[0] is None}

        def predict_one(element):
            one, share = element
            mixed = list(shared)
            for i, weight in zip(self.positions, own):
                mixed[i] += share * (weight - mixed[i])
            parts = tuple(mixed[: len(trainable)]), tuple(mixed[len(trainable) :])
            inputs = ((name, one[name][tf.newaxis] if name in one else x[name]) for name in spec)
            return model.predict_on_batch(parts, collections.OrderedDict(inputs), training=False)[0]

        return tf.map_fn(predict_one, (batched, self.shares(weights, x)), fn_output_signature=tf.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.features.model, name)


class InstanceWeights:
    """Gives a client's weights of an `InstanceModel`; the `own_fn` of an `Evaluator`.

    Args:
      model: The model.
      own_fn: From all weights of the global model and a client id to its own ones.
      records_fn: From a client id (string scalar tensor) to the batches (x, y) of its training records, traceable.
      seed: By which records are drawn.
    """

    def __init__(self, model: InstanceModel, own_fn: Callable[[list, str], list], records_fn: Callable, seed: int):
        self._model, self._own_fn, self._seed = model, own_fn, seed
        self._reader = runtime.ClientReader(records_fn)
        specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), model.features.model.initial_weights)
        self._features = runtime.step_function(
            lambda weights, batch: model.features(weights, batch[0]), specs, self._reader.element_spec, internal=True
        )

    @property
    def is_pure(self) -> bool:
        """As of a client's own weights."""
        return getattr(self._own_fn, "is_pure", True)

    def __call__(self, weights: list, client_id: str) -> list:
        trainable, others = self._model.features.model.initial_weights
        shared = list(weights[: len(trainable) + len(others)])
        own = self._own_fn(shared, client_id)
        parts = tuple(shared[: len(trainable)]), tuple(shared[len(trainable) :])
        found = [self._features(parts, batch).numpy() for batch in self._reader(client_id)]
        records = np.zeros([self._model.examples, self._model.features.width], np.float32)
        drawn = np.concatenate([records[:0], *found])
        rng = np.random.default_rng([self._seed, zlib.crc32(client_id.encode())])
        drawn = drawn[rng.permutation(len(drawn))[: self._model.examples]]
        records[: len(drawn)] = drawn
        own = [own[i] for i in self._model.positions]
        return [*shared, *own, tf.constant(records), tf.constant(len(drawn), tf.int32)]


class InstancePredictor:
    """In place of a client's Keras model in a `Predictor`: from inputs by name to what has their logits.

    Args:
      model: An `InstanceModel`.
      weights: All of a client's, by `InstanceWeights`.
    """

    def __init__(self, model: InstanceModel, weights: list):
        number = len(model.initial_weights[0])
        self._model, self._weights = model, (tuple(weights[:number]), tuple(weights[number:]))

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        x = {**inputs, models.SEED: tf.zeros([2], tf.int64)}
        return types.SimpleNamespace(logits=self._model.predict_on_batch(self._weights, x, training))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model.keras_model, name)
