"""Any Keras or Hugging Face model as a `tff.learning.models.FunctionalModel`.

TFF's own `functional_model_from_keras` clones the model, which Hugging Face classes (subclassed, of
`tf_keras`) do not allow. Here the model stays as it is: for the length of one call its variables
are swapped for the tensors of a client, as `torch.func.functional_call` does, and what is traced is
a pure function of weights and data.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import re
import threading
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

from tff_tx.errors import UserError
from tff_tx.models import _randomness

SEED = "seed"
"""The input that carries the seed of a batch's dropout: int64, shape [2], not batched."""

_KERAS_BOOKKEEPING = re.compile(r"^_(self_|obj_reference|undeduplicated|saved_model)")
_tracing = threading.RLock()


class StatefulModelError(UserError):
    """The model changes variables while it trains: its update is more than one of weights."""


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
        with _tracing, self._swapped(values), _inlined_functions(), _randomness.seeded(seed):
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


class TransformerModel(tff.learning.models.FunctionalModel):
    """A `FunctionalModel` that remembers the Keras model it came from.

    Attributes:
      keras_model: The model; its variables keep the initial values until `assign` is called.
      objective: The `Objective` it is trained on.
    """

    def __init__(self, *, function, trainable, non_trainable, objective, predict_fn, input_spec):
        self.keras_model = function.model
        self.objective = objective
        self._trainable, self._non_trainable = trainable, non_trainable
        self._predict_fn = predict_fn
        super().__init__(
            initial_weights=(
                tuple(v.numpy() for v in trainable),
                tuple(v.numpy() for v in non_trainable),
            ),
            predict_on_batch_fn=predict_fn,
            loss_fn=objective.loss_fn,
            metrics_fns=objective.metrics_fns,
            input_spec=input_spec,
        )

    def predict_on_batch(self, model_weights: Any, x: Any, training: bool = True) -> tf.Tensor:
        """The predictions for `x`: as in the base class, without a `tf.function` around another.

        Each level of functions costs as much to differentiate as the model itself.
        """
        return self._predict_fn(model_weights, x, training)

    @property
    def trainable_names(self) -> tuple[str, ...]:
        """Names of the trainable weights, in the order of `initial_weights[0]`."""
        return tuple(v.name for v in self._trainable)

    @property
    def non_trainable_names(self) -> tuple[str, ...]:
        """Names of the other weights, in the order of `initial_weights[1]`."""
        return tuple(v.name for v in self._non_trainable)

    def assign(self, weights: Any) -> None:
        """Writes `weights`, a `tff.learning.models.ModelWeights`, into the Keras model."""
        parts = (
            ("trainable", self._trainable, weights.trainable),
            ("non-trainable", self._non_trainable, weights.non_trainable),
        )
        for part, variables, values in parts:
            if len(variables) != len(values):
                raise ValueError(
                    f"{type(self.keras_model).__name__} has {len(variables)} {part} weights, and "
                    f"{len(values)} values were given: they are of another model."
                )
        for _, variables, values in parts:
            for variable, value in zip(variables, values):
                variable.assign(value)


def functional_model(
    model: Any,
    objective: Any,
    x_spec: Any,
    *,
    output_fn: Callable[[Any], tf.Tensor] | None = None,
) -> TransformerModel:
    """Makes a built Keras model a `FunctionalModel` trained on `objective`.

    Trainable are the model's trainable weights on which the loss depends; frozen weights, and
    weights the loss never reaches (say, an unused pooler), are non-trainable: they are not updated
    and need not be sent back.

    Args:
      model: A built `tf_keras.Model` or `tf.keras.Model` (Sequential, functional, subclassed, or
        Hugging Face).
      objective: A `tff_tx.models.Objective`: loss, metrics and the spec of the labels.
      x_spec: Structure of `tf.TensorSpec` of one batch of inputs, first dimension None. If it is a
        mapping with the key `SEED`, that input seeds dropout and is not passed to the model;
        without it dropout is Keras' own. A mapping that has every argument which the model's
        `call` requires (`inputs` for a Keras Sequential) is passed as keyword arguments, any other
        as the first argument.
      output_fn: Takes what the model returns to the tensor of predictions [batch, ...]; by default
        the logits (or the last hidden state) of a Hugging Face output, or the output itself.

    Raises:
      StatefulModelError: If training changes a variable (BatchNormalization).
      UserError: If the model is not built, uses variables that are not attributes of its layers,
        adds a loss of its own (a regularizer), which would be silently lost, or draws random
        numbers that a seed cannot reach.
    """
    if not model.built or not model.weights:
        raise UserError(
            f"{type(model).__name__} has no weights yet: call it once on a batch (or build it) "
            "before making it a functional model."
        )
    _refuse_stateful_layers(model)
    function = KerasFunction(model)
    graphs = _ModelGraphs(function, x_spec, output_fn or first_output)
    reached = _reached(graphs(training=True))
    wanted = {id(v) for v in model.trainable_weights}
    is_trainable = [id(v) in wanted and hit for v, hit in zip(function.variables, reached)]
    order = _merge_order(is_trainable)

    @tf.function(autograph=False)
    def predict_on_batch(model_weights, x, training):
        flat = [*model_weights[0], *model_weights[1]]
        return graphs(bool(training))([flat[i] for i in order], x)

    return TransformerModel(
        function=function,
        trainable=[v for v, t in zip(function.variables, is_trainable) if t],
        non_trainable=[v for v, t in zip(function.variables, is_trainable) if not t],
        objective=objective,
        predict_fn=predict_on_batch,
        input_spec=(x_spec, objective.label_spec),
    )


def first_output(outputs: Any) -> tf.Tensor:
    """The predictions in an output: logits, else the last hidden state, else the first tensor."""
    if isinstance(outputs, collections.abc.Mapping):
        for name in ("logits", "last_hidden_state"):
            if name in outputs:
                return outputs[name]
    return tf.nest.flatten(outputs)[0]


def split_seed(x: Any) -> tuple[Any, Any]:
    """Parts a batch of inputs into what the model sees and the seed (None where there is none)."""
    if not isinstance(x, collections.abc.Mapping) or SEED not in x:
        return x, None
    inputs = {name: value for name, value in x.items() if name != SEED}
    return inputs, x[SEED]


class _ModelGraphs:
    """The model's graphs for training and for evaluation: (values of variables, x) -> predictions.

    They are traced as when called eagerly, wherever the call comes from. Inside TFF's graphs, which
    are those of TensorFlow 1, `==` on tensors compares identities, and models that use it would
    silently compute something else; `tf.init_scope` does not lead out of them.
    """

    def __init__(self, function: KerasFunction, x_spec: Any, output_fn: Callable[[Any], tf.Tensor]):
        self._function, self._x_spec, self._output_fn = function, x_spec, output_fn
        self._autograph = False
        self._traced: dict[bool, Any] = {}

    def __call__(self, training: bool):
        with _tracing:
            if training not in self._traced:
                with tf.__internal__.eager_context.eager_mode():
                    traced = self._trace(training)
                _refuse_impure_graph(self._function.model, traced, split_seed(self._x_spec)[1])
                _bake_in_constants(traced)
                self._traced[training] = traced
            return self._traced[training]

    def _trace(self, training):
        def call(values, x):
            inputs, seed = split_seed(x)
            return self._output_fn(self._function(list(values), inputs, training, seed))

        specs = [tf.TensorSpec(v.shape, v.dtype) for v in self._function.variables]
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
                raise StatefulModelError(_stateful_message(self._function.model, str(error))) from error
            raise


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


def _refuse_impure_graph(model, traced, seed):
    """Refuses a graph that depends on more than weights and data."""
    kind = type(model).__name__
    if _assigns(traced.graph):
        names = ", ".join(sorted(v.name for v in traced.graph.variables))
        raise StatefulModelError(_stateful_message(model, f"variables {names}"))
    if traced.graph.variables:
        names = ", ".join(sorted(v.name for v in traced.graph.variables))
        raise UserError(
            f"{kind} uses variables that are not attributes of its layers ({names}), so that a "
            "client could not train its own copy: create them with add_weight in a layer."
        )
    if any(external.dtype == tf.resource for external, _ in traced.graph.captures):
        raise UserError(
            f"{kind} uses a resource other than a variable, such as a lookup table, which does not "
            "travel to clients: do that work (tokenization, say) when the data is prepared."
        )
    if model.losses:
        raise UserError(
            f"{kind} adds losses of its own (add_loss or an activity regularizer), which federated "
            "training would lose: remove them."
        )
    stateful = _randomness.stateful_ops(traced.graph)
    if seed is not None and stateful:
        raise UserError(
            f"{kind} draws random numbers with {', '.join(stateful)}, which no seed reaches: draw "
            "them with tf.random.uniform, normal, truncated_normal, shuffle or categorical, or "
            f"leave {SEED!r} out of the inputs."
        )


def _assigns(graph) -> bool:
    ops = [op.type for op in graph.get_operations()]
    for function in graph.as_graph_def().library.function:
        ops.extend(node.op for node in function.node_def)
    return any(op.startswith("Assign") for op in ops)


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


def _reached(traced) -> list[bool]:
    """Of each variable, whether the predictions depend on it differentiably."""
    ops, seen = [t.op for t in traced.outputs], set()
    while ops:
        op = ops.pop()
        if op.name in seen or op.type in ("StopGradient", "PreventGradient"):
            continue
        seen.add(op.name)
        ops.extend(t.op for t in op.inputs if t.dtype.is_floating or t.dtype in (tf.resource, tf.variant))
    values, _ = traced.structured_input_signature[0]
    return [t.op.name in seen for t in traced.inputs[: len(values)]]


def _refuse_stateful_layers(model):
    kind = type(model).__name__
    for layer in model.submodules:
        what = f"layer {getattr(layer, 'name', '?')}, {type(layer).__name__}"
        if "BatchNormalization" in type(layer).__name__ and layer.trainable:
            raise StatefulModelError(_stateful_message(model, what))
        if isinstance(layer, (tf.keras.layers.RNN, tf_keras.layers.RNN)) and layer.stateful:
            raise UserError(
                f"{kind} keeps state between batches ({what} with stateful=True), which would mix "
                "up clients: build it with stateful=False."
            )
    if model.losses:
        raise UserError(
            f"{kind} has {len(model.losses)} regularization losses, which federated training would "
            "lose: remove the regularizers and use the weight decay of the optimizer instead."
        )
    for name in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"):
        rate = getattr(getattr(model, "config", None), name, 0.0)
        if rate:
            raise UserError(
                f"{kind} has {name}={rate}: Hugging Face draws it in Python, once and for all when "
                f"the graph is made, so some layers would never train: set {name} to 0 in its "
                "configuration."
            )


def _stateful_message(model, what) -> str:
    return (
        f"{type(model).__name__} changes state while it trains ({what}), which averaging of "
        "weights would mix up between clients: use LayerNormalization or GroupNormalization "
        "instead, or set layer.trainable = False."
    )


def _merge_order(is_trainable: list[bool]) -> list[int]:
    """Positions of the model's variables in the concatenation (trainable, non_trainable)."""
    return list(np.argsort(np.argsort([not t for t in is_trainable], kind="stable"), kind="stable"))


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
