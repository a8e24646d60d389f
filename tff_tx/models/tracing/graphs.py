"""The graphs of a model: traced once for training and once for evaluation, checked, and fit for TFF."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx.core import internals
from tff_tx.models.tracing import dropout, frozen_dropout, requirements
from tff_tx.models.tracing import randomness as _randomness
from tff_tx.models.tracing.keras_function import KerasFunction


class ModelGraphs:
    """The model's graphs for training and for evaluation: (values of variables, x) -> predictions.

    They are traced as when called eagerly, wherever the call comes from. Inside TFF's graphs, which
    are those of TensorFlow 1, `==` on tensors compares identities, and models that use it would
    silently compute something else; `tf.init_scope` does not lead out of them.

    Args:
      function: The model.
      x_spec: Of a batch of inputs.
      output_fn: From what the model returns to the predictions.
      is_frozen: Whether each variable is without gradient: none is then computed, nor anything stored for it.
      drops_frozen: Whether dropout also drops what depends on frozen variables alone.
    """

    def __init__(
        self,
        function: KerasFunction,
        x_spec: Any,
        output_fn: Callable[[Any], tf.Tensor],
        is_frozen: Sequence[bool],
        drops_frozen: bool = True,
    ):
        self._is_frozen, self._drops_frozen = tuple(is_frozen), drops_frozen
        self._function, self._x_spec, self._output_fn = function, x_spec, output_fn
        self._autograph, self._any_rate, self._at_any_rate = False, False, None
        self._traced: dict[bool, Any] = {}

    def at_any_rate(self) -> ModelGraphs:
        """The graphs whose `x` has the dropout rate, `dropout.RATE`, beside the model's inputs."""
        if self._at_any_rate is None:
            spec = collections.OrderedDict(self._x_spec, **{dropout.RATE: tf.TensorSpec([], tf.float32)})
            parts = (self._function, spec, self._output_fn, self._is_frozen, self._drops_frozen)
            self._at_any_rate = ModelGraphs(*parts)
            self._at_any_rate._any_rate = True
        return self._at_any_rate

    def __call__(self, training: bool):
        with internals.lock:
            if training not in self._traced:
                with eagerly():
                    traced = self._trace(training)
                requirements.require_pure_graph(self._function.model, traced, _randomness.split_seed(self._x_spec)[1])
                _bake_in_constants(traced)
                self._traced[training] = traced
            return self._traced[training]

    def _trace(self, training):
        def call(values, x):
            inputs, seed = _randomness.split_seed(x)
            rate = None
            if self._any_rate:
                rate = inputs[dropout.RATE]
                inputs = {name: value for name, value in inputs.items() if name != dropout.RATE}
            # The gradient of a function is made for all of its inputs, whoever asks for it.
            values = [tf.stop_gradient(v) if frozen else v for v, frozen in zip(values, self._is_frozen)]
            trained = [v for v, frozen in zip(values, self._is_frozen) if not frozen]
            with self._dropout(trained), dropout.at_rate(self._function.model, rate):
                return self._output_fn(self._function(values, inputs, training, seed))

        function = self._function
        specs = [tf.TensorSpec(v.shape, dtype) for v, dtype in zip(function.variables, function.dtypes)]
        try:
            # Most models branch on Python values alone and spare themselves AutoGraph, 9/10 of the
            # tracing time.
            if not self._autograph:
                try:
                    return tf.function(call, autograph=False).get_concrete_function(specs, self._x_spec)
                except (tf.errors.OperatorNotAllowedInGraphError, TypeError):
                    self._autograph = True
            return tf.function(call).get_concrete_function(specs, self._x_spec)
        except AttributeError as error:
            if "assign" in str(error):  # of a tensor, where the layer expects its variable
                raise requirements.StatefulModelError(
                    requirements.stateful_message(self._function.model, str(error))
                ) from error
            raise

    def _dropout(self, trained):
        if self._drops_frozen:
            return contextlib.nullcontext()
        return frozen_dropout.off_where_frozen(self._function.model, trained)


@contextlib.contextmanager
def eagerly():
    """Leaves the graph that is being made, if any, for a block: functions are traced in it as from eager code."""
    with internals.lock, tf.__internal__.eager_context.eager_mode():
        yield


def reachable_from_loss(traced: Any) -> list[bool]:
    """Whether the predictions depend on each variable differentiably."""
    ops, seen = [t.op for t in traced.outputs], set()
    while ops:
        op = ops.pop()
        if op.name in seen or op.type in ("StopGradient", "PreventGradient"):
            continue
        seen.add(op.name)
        ops.extend(t.op for t in op.inputs if t.dtype.is_floating or t.dtype in (tf.resource, tf.variant))
    values, _ = traced.structured_input_signature[0]
    return [t.op.name in seen for t in traced.inputs[: len(values)]]


def first_output(outputs: Any) -> tf.Tensor:
    """The predictions in an output: logits, else the last hidden state, else the first tensor.

    Those of starts and of ends of answers, [batch, length] each, become [batch, length, 2].
    """
    if isinstance(outputs, collections.abc.Mapping):
        if "start_logits" in outputs:
            return tf.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)
        for name in ("logits", "last_hidden_state"):
            if name in outputs:
                return outputs[name]
    return tf.nest.flatten(outputs)[0]


def _bake_in_constants(traced):
    """Makes eager tensors that a model holds (a table of positions) constants of the caller.

    By itself the function would pass them as arguments, which TFF's graphs cannot do.
    """
    for external, placeholder in traced.graph.captures:
        if isinstance(external, tf.__internal__.EagerTensor):
            value = external.numpy()
            traced.replace_capture_with_deferred_capture(
                external,
                lambda value=value: tf.constant(value),
                tf.TensorSpec(external.shape, external.dtype),
                placeholder,
            )
