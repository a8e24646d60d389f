"""A Keras model as a pure function of its weights.

The model stays as it is: for the length of one call its variables are swapped for the tensors of a client, as
`torch.func.functional_call` does.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import re
import threading
from typing import Any

import tensorflow as tf

from tff_tx.models import _randomness

_KERAS_BOOKKEEPING = re.compile(r"^_(self_|obj_reference|undeduplicated|saved_model)")

tracing = threading.RLock()
"""Held while a model has tensors for variables, and while graphs of models are made."""


class KerasFunction:
    """A Keras model as a pure function of the values of its variables.

    Attributes:
      model: The `tf_keras.Model` or `tf.keras.Model`, built.
      variables: Its weights, each once (a tied weight is one), in Keras' order.
    """

    def __init__(self, model: Any):
        self.model = model
        self.variables = _unique(model.weights)
        self._required = _required_parameters(model)
        index = {id(v): i for i, v in enumerate(self.variables)}
        self._slots = [
            (layer.__dict__, name, _replacer(value, index))
            for layer in (model, *model.submodules)
            for name, value in list(vars(layer).items())
            if not _KERAS_BOOKKEEPING.match(name) and _holds_variable(value, index)
        ]

    def __call__(self, values: list, inputs: Any, training: bool, seed: Any = None) -> Any:
        """The model's output on `inputs`, with `values` in place of its `variables`."""
        with tracing, self._swapped(values), _inlined_functions(), _randomness.seeded(seed):
            if _are_arguments(inputs, self._required):
                return self.model(**inputs, training=training)
            return self.model(inputs, training=training)

    @contextlib.contextmanager
    def _swapped(self, values):
        originals = [attributes[name] for attributes, name, _ in self._slots]
        try:
            for attributes, name, replace in self._slots:
                attributes[name] = replace(values)
            yield
        finally:
            for (attributes, name, _), original in zip(self._slots, originals):
                attributes[name] = original


@contextlib.contextmanager
def _inlined_functions():
    """Runs `tf.function`s of the model as plain Python in the calling thread.

    They would keep what they are traced to, and with it the tensors that stand for the variables
    for this one call, and use them in the next.
    """
    kind, thread = type(tf.function(lambda: None)), threading.get_ident()
    original = kind.__call__

    def call(self, *args, **kwargs):
        if threading.get_ident() != thread:
            return original(self, *args, **kwargs)
        status = tf.__internal__.autograph.control_status_ctx()
        return tf.__internal__.autograph.tf_convert(self.python_function, status)(*args, **kwargs)

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = original


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


def _holds_variable(value, index) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_variable(v, index) for v in value)
    if isinstance(value, dict):
        return any(_holds_variable(v, index) for v in value.values())
    return id(value) in index


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
