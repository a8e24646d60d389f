"""A Keras model as a pure function of its weights.

The model stays as it is: for the length of one call its variables are swapped for the tensors of a client, as
`torch.func.functional_call` does.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tff_tx.core import internals
from tff_tx.models.tracing import branches, convolutions, functions, packing, padding, recomputation
from tff_tx.models.tracing import randomness as _randomness
from tff_tx.models.tracing.layer_stacks import KERAS_BOOKKEEPING


class KerasFunction:
    """A Keras model as a pure function of the values of its variables.

    Attributes:
      model: The `tf_keras.Model` or `tf.keras.Model`, built.
      variables: Its weights, each once (a tied weight is one), in Keras' order.
      dtypes: In which type the value of each comes; it is cast to the variable's where it is used.
      frozen: Positions of the variables that have no gradient.
      frozen_norms: Layers of batch normalization that use and keep their statistics in training too.
      recomputed: Layers that keep nothing but their inputs for the backward pass, see `recomputation`.
      backward_graphs: Theirs, which live as long as this.
    """

    def __init__(self, model: Any):
        self.model = model
        self.variables = _unique(model.weights)
        self.dtypes = [v.dtype for v in self.variables]
        self.frozen: frozenset[int] = frozenset()
        self.frozen_norms: list = []
        self.recomputed: list = []
        self.backward_graphs: list = []
        self._required = _required_parameters(model)
        index = {id(v): i for i, v in enumerate(self.variables)}
        self._slots = [
            Slot(vars(layer), name, value, index)
            for layer in (model, *model.submodules)
            for name, value in list(vars(layer).items())
            if not KERAS_BOOKKEEPING.match(name) and _positions(value, index)
        ]

    def __call__(self, values: list, inputs: Any, training: bool, seed: Any = None) -> Any:
        """The model's output on `inputs`, with `values` in place of its `variables`."""
        values, status = dict(enumerate(values)), tf.__internal__.autograph.control_status_ctx()
        with contextlib.ExitStack() as stack:
            stack.enter_context(internals.lock)
            stack.enter_context(self.placed(values, training))
            stack.enter_context(functions.inlined())
            stack.enter_context(branches.differentiable())
            stack.enter_context(convolutions.differentiable(self.model))
            stack.enter_context(padding.left_out(self.model, inputs))
            stack.enter_context(_randomness.seeded(seed))
            stack.enter_context(recomputation.recomputing(self, values, training, status))
            stack.enter_context(packing.separated(self.model, inputs))
            if _are_arguments(inputs, self._required):
                return self.model(**inputs, training=training)
            return self.model(inputs, training=training)

    @contextlib.contextmanager
    def placed(self, values: Mapping[int, Any], training: bool, slots: Sequence[Slot] | None = None):
        """Has tensors stand for variables while the model, or layers of it, are called.

        Args:
          values: By the variables' positions.
          training: Whether the call is one for training.
          slots: Where; None: everywhere.
        """
        del training
        values = {i: tf.cast(value, self.variables[i].dtype) for i, value in values.items()}
        slots = self._slots if slots is None else slots
        swaps = [(slot.attributes, slot.name, slot.replaced(values)) for slot in slots]
        # Keras' own way to say so, for the length of the call alone: the model may be trained as a whole elsewhere.
        swaps += [(vars(layer), "_trainable", False) for layer in self.frozen_norms]
        with internals.swapped(*swaps):
            yield

    def part(self, layer: Any) -> tuple[list[Slot], list[int]]:
        """Where a layer and the layers within it hold variables, and the positions of all that `placed` needs there."""
        inside = {id(vars(part)) for part in (layer, *layer.submodules)}
        slots = [slot for slot in self._slots if id(slot.attributes) in inside]
        return slots, sorted({i for slot in slots for i in slot.positions})


class Slot:
    """An attribute of a layer that holds variables.

    Attributes:
      attributes: The `__dict__` of the layer.
      name: Which.
      positions: Of the variables, set of int.
      replaced: From tensors by position to a copy of the attribute's value in which they stand for the variables.
    """

    def __init__(self, attributes: dict, name: str, value: Any, index: Mapping[int, int]):
        self.attributes, self.name = attributes, name
        self.positions, self.replaced = _positions(value, index), _replacer(value, index)


def _required_parameters(model) -> set[str]:
    """Names of the arguments that the model's `call` cannot do without."""
    return {
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in ("training", "mask")
    }


def _are_arguments(inputs, required) -> bool:
    """Whether `inputs` holds arguments of a call by name, rather than being the first of them."""
    return isinstance(inputs, collections.abc.Mapping) and bool(required) and required <= set(inputs)


def _unique(variables):
    return list({id(v): v for v in variables}.values())


def _positions(value, index) -> set[int]:
    """Of the variables in an attribute's value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return set().union(*(_positions(v, index) for v in value))
    return {index[id(value)]} if id(value) in index else set()


def _replacer(value, index):
    """A function from tensors to a copy of `value` in which they stand for the variables."""
    if isinstance(value, dict):
        parts = {k: _replacer(v, index) for k, v in value.items()}
        return lambda values: {k: part(values) for k, part in parts.items()}
    if isinstance(value, (list, tuple)):
        parts = [_replacer(v, index) for v in value]
        if hasattr(value, "_fields"):
            return lambda values: type(value)(*(part(values) for part in parts))
        container = tuple if isinstance(value, tuple) else list
        return lambda values: container(part(values) for part in parts)
    if id(value) in index:
        return lambda values: values[index[id(value)]]
    return lambda values: value
