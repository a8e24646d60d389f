"""A model whose lower part stays as it is, as a feature extractor and a model on top of it.

The features of an example (Razavian et al. 2014, "CNN Features off-the-shelf", https://arxiv.org/abs/1403.6382) are the
activations below the lowest trained weight. As nothing below it changes, they are the same in every round.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.core.errors import UserError, setting
from tff_tx.models.functional import TransformerModel
from tff_tx.models.lora import RANK
from tff_tx.models.tracing import cut
from tff_tx.models.tracing import randomness as _randomness
from tff_tx.models.tracing.graphs import eagerly

_PREFIX = "feature_"
_LEAST_SHARE = 0.15
"""Of a model's matrix products, below the cut: to store less than what they compute would hardly save anything."""

_BATCHES = (5, 4)
_LENGTHS = {"length": (2, 3), "decoder_length": (3, 2)}
"""Sizes of two small batches that tell a tensor's dimensions apart: no two of them grow alike."""


class FeatureExtractor:
    """A model, cut in two where its frozen part ends.

    Attributes:
      specs: By name the features of a batch: `tf.TensorSpec`, [batch, ...] or [batch, length, ...].
      inputs: Names of those inputs that the upper part reads beside the features.
      model: The upper part: a `TransformerModel` with all weights of the whole, whose inputs are `inputs`, the
        features, and what is not of the examples, as the seed. Loss, metrics and predictions are those of the whole.

    Args:
      model: The whole, made with `frozen_dropout=False`, whose weights are those of its Keras model.

    Raises:
      UserError: If there is nothing to gain, or the model cannot be cut.
    """

    def __init__(self, model: TransformerModel):
        self._whole = model
        self._kind = type(model.keras_model).__name__
        x_spec, _ = model.input_spec
        if not isinstance(x_spec, collections.abc.Mapping):
            raise UserError(
                f"{setting('model.cache_features')} takes inputs by name, and those of {self._kind} have none."
            )
        self._x_spec = x_spec
        with eagerly():
            self._sides = {training: _Side(model, training) for training in (True, False)}
            side = self._sides[True]
            self._require_gain(*side.cut.products)
            self.specs = collections.OrderedDict((f"{_PREFIX}{i}", spec) for i, spec in enumerate(side.feature_specs()))
            self._require_same_features()
            read = {name for s in self._sides.values() for name in s.inputs_read()}
            self.inputs = tuple(name for name in x_spec if name in read)
            upper_spec = collections.OrderedDict((name, x_spec[name]) for name in self.inputs)
            upper_spec.update(self.specs)
            upper_spec.update((n, x_spec[n]) for n in (_randomness.SEED, RANK) if n in x_spec)
            self._below = side.trace_below()
            above = {training: s.trace_above(upper_spec) for training, s in self._sides.items()}
        self.model = model.with_graphs(above.__getitem__, upper_spec)

    def __call__(self, weights: Any, x: Mapping[str, tf.Tensor]) -> collections.OrderedDict:
        """The features of a batch, by name; traceable.

        Args:
          weights: (trainable, non-trainable) of the whole model, of which the trainable ones do not matter.
          x: Inputs of the whole model.
        """
        return collections.OrderedDict(zip(self.specs, self._below(self._whole.in_order(weights), x)))

    def _require_gain(self, below, products):
        if below < _LEAST_SHARE * products:
            raise UserError(
                f"{setting('model.cache_features')}: below the lowest trained weight {self._kind} has {below} of its "
                f"{products} matrix products, too little to be worth caching: train the head, upper layers "
                f"({setting('model.trainable')}=layers:RE), or adapters of upper layers ({setting('lora.targets')})."
            )

    def _require_same_features(self):
        """The same features must come from the graph for training and from that for evaluation, in the same order."""
        values = [side.sample_features() for side in self._sides.values()]
        same = len(values[0]) == len(values[1]) and all(
            a.shape == b.shape and np.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in zip(*values)
        )
        if not same:
            raise UserError(
                f"{setting('model.cache_features')}: the frozen part of {self._kind} computes something else in "
                f"training than in "
                "evaluation, and dropout is not all of it: train without the flag."
            )


class _Side:
    """The graph for training or for evaluation, and its cut."""

    def __init__(self, model: TransformerModel, training: bool):
        self._traced = model.graphs(training)
        self._x_spec, _ = model.input_spec
        self._variables = model.variables
        names = [t.name for t in self._traced.inputs]
        kinds = dict(zip(names, (cut.CHANGING if c else cut.FROZEN for c in model.is_changing)))
        self._x_names = dict(zip(_sorted(self._x_spec), names[len(self._variables) :]))
        for name, tensor in self._x_names.items():
            kinds[tensor] = cut.UNSTORED if name in (_randomness.SEED, RANK) else cut.DATA
        self._dependences = cut.Dependences(self._traced, kinds)
        self.cut = cut.find(self._dependences, self._dims())
        self._require_copyable_gradients(type(model.keras_model).__name__)

    def _require_copyable_gradients(self, kind):
        """Custom gradients refer to tensors of the graph that they were traced in, and a copy would have others."""
        graph = self._traced.graph
        for op in map(graph.get_operation_by_name, self.cut.above):
            if cut.has_custom_gradient(op) and self._dependences.changes(op):
                raise UserError(
                    f"{setting('model.cache_features')}: {kind} has a gradient of its own making at {op.name}, above "
                    f"the lowest trained "
                    f"weight, which cannot be cut; where it is dropout, set its rate to 0 in {setting('model.config')}."
                )

    def _dims(self):
        """The dimensions of each tensor: those that are the same for two batches of different sizes are numbers."""
        tensors = self._dependences.features()
        run = self._function([t.name for t in tensors], lambda outputs: [tf.shape(t) for t in outputs])
        shapes = [run(*self._sample(i)) for i in range(len(_BATCHES))]
        words = {_BATCHES: cut.BATCH, **{sizes: word for word, sizes in _LENGTHS.items()}}

        def dimension(pair):
            return int(pair[0]) if pair[0] == pair[1] else words.get(tuple(map(int, pair)))

        found = {t.name: tuple(map(dimension, zip(*both))) for t, *both in zip(tensors, *shapes)}
        found.update((tensor, _words(name, self._x_spec[name])) for name, tensor in self._x_names.items())
        return found

    def _sample(self, number: int) -> list[tf.Tensor]:
        """The values of all inputs for one of two small batches."""
        generator = np.random.default_rng(0)
        x = []
        for name in _sorted(self._x_spec):
            spec = self._x_spec[name]
            shape = [_BATCHES[number] if d is None else d for d in spec.shape[:1]]
            shape += [_LENGTHS[_length_of(name)][number] if d is None else d for d in spec.shape[1:]]
            if spec.dtype.is_floating:
                value = generator.standard_normal(shape)
            else:
                value = np.full(shape, name.endswith("mask"))
            x.append(tf.constant(value, spec.dtype))
        return [*(v.value() for v in self._variables), *x]

    def _function(self, fetches, fn):
        """From all inputs to `fn` of some tensors below, as NumPy arrays."""
        inputs = [
            tf.TensorSpec(t.shape, t.dtype) for t in self._traced.inputs[: len(self._variables) + len(self._x_names)]
        ]
        traced = tf.function(lambda *inputs: fn(self._below(inputs, fetches)), autograph=False)
        traced = traced.get_concrete_function(*inputs)
        return lambda *inputs: [np.asarray(t) for t in traced(*inputs)]

    def _below(self, inputs, fetches):
        traced = self._traced
        given = {t.name: value for t, value in zip(traced.inputs, [*inputs, *traced.captured_inputs])}
        ops = {op.name for op in cut.ancestors(traced.graph.get_tensor_by_name(f) for f in fetches)}
        return cut.copy(traced, ops - {name.split(":")[0] for name in given}, given, fetches, "below")

    def sample_features(self) -> list[np.ndarray]:
        """The features of a small batch."""
        return self._function(self.cut.features, list)(*self._sample(0))

    def trace_below(self):
        """The part below the cut as a concrete function, (values of all variables, x) -> features."""

        def below(values, x):
            return self._below([*values, *(x[name] for name in _sorted(self._x_spec))], self.cut.features)

        return tf.function(below, autograph=False).get_concrete_function(self._value_specs(), self._x_spec)

    def _value_specs(self):
        return [tf.TensorSpec(v.shape, v.dtype) for v in self._variables]

    def feature_specs(self) -> list[tf.TensorSpec]:
        """The spec of each feature of a batch, from its dimensions."""
        graph = self._traced.graph
        return [
            tf.TensorSpec([d if isinstance(d, int) else None for d in dims], graph.get_tensor_by_name(name).dtype)
            for name, dims in zip(self.cut.features, self.cut.dims)
        ]

    def inputs_read(self) -> set[str]:
        """Which inputs by name are read above the cut, be it for their length."""
        read = {name for name, tensor in self._x_names.items() if tensor in self.cut.inputs}
        known = {d for dims in self.cut.dims for d in dims}
        for word in {d for dims in self.cut.shapes.values() for d in dims if isinstance(d, str)} - known:
            read.add(next(name for name, spec in self._x_spec.items() if word in _words(name, spec)))
        return read - {_randomness.SEED, RANK}

    def trace_above(self, upper_spec: Mapping[str, tf.TensorSpec]):
        """The part above the cut as a concrete function, (values of all variables, x) -> predictions."""
        traced, features = self._traced, self.cut.features

        def above(values, x):
            sizes = self._sizes(x) if self.cut.shapes else {}
            given = dict(zip((t.name for t in traced.inputs), values))
            given.update((tensor, x[name]) for name, tensor in self._x_names.items() if name in x)
            captured = traced.captured_inputs
            given.update(zip((t.name for t in traced.inputs[len(traced.inputs) - len(captured) :]), captured))
            given.update((tensor, x[f"{_PREFIX}{i}"]) for i, tensor in enumerate(features))
            for tensor, dims in self.cut.shapes.items():
                dtype = traced.graph.get_tensor_by_name(tensor).dtype
                given[tensor] = tf.cast(tf.stack([sizes[d] if isinstance(d, str) else d for d in dims]), dtype)
            (predictions,) = cut.copy(traced, self.cut.above, given, [self._dependences.result.name], "above")
            return predictions

        return tf.function(above, autograph=False).get_concrete_function(self._value_specs(), upper_spec)

    def _sizes(self, x):
        """The batch's size and its lengths, by their words."""
        words = {name: _words(name, spec) for name, spec in self._x_spec.items()}
        words.update((f"{_PREFIX}{i}", dims) for i, dims in enumerate(self.cut.dims))
        return {
            word: tf.shape(x[name])[axis]
            for name in x
            for axis, word in enumerate(words[name])
            if isinstance(word, str)
        }


def _sorted(x_spec) -> list[str]:
    """Names in the order in which TensorFlow flattens a mapping."""
    return sorted(x_spec)


def _words(name, spec) -> tuple:
    """The dimensions of an input: numbers, `cut.BATCH` and lengths."""
    first = [cut.BATCH if d is None else d for d in spec.shape[:1]]
    return (*first, *(_length_of(name) if d is None else d for d in spec.shape[1:]))


def _length_of(name: str) -> str:
    return "decoder_length" if name.startswith("decoder_") else "length"
