"""Any Keras or Hugging Face model as a `tff.learning.models.FunctionalModel`.

TFF's own `functional_model_from_keras` clones the model, which Hugging Face classes (subclassed, of `tf_keras`) do not
allow. Here the model stays as it is, and what is traced is a pure function of weights and data: see `keras_function`.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.config.task import DTYPES
from tff_tx.core import internals
from tff_tx.core.errors import UserError, setting
from tff_tx.models import trainable as trainable_lib
from tff_tx.models.lora import Lora, LoraFunction
from tff_tx.models.tracing import dropout, randomness, requirements
from tff_tx.models.tracing import graphs as graphs_lib
from tff_tx.models.tracing.adapted_layers import dense_layers
from tff_tx.models.tracing.keras_function import KerasFunction
from tff_tx.models.tracing.layer_stacks import transformer_blocks
from tff_tx.models.weights_file import WeightsFile, digest


def _is_no_advice_on_models(record: logging.LogRecord) -> bool:
    """TensorFlow advises to trace less often where a process has several models: functions are traced once for each."""
    text = record.getMessage()
    return "tf.function retracing" not in text or not re.search(r"<function (FunctionalModel|Evaluator)\.", text)


logging.getLogger("tensorflow").addFilter(_is_no_advice_on_models)


@dataclasses.dataclass(frozen=True)
class AdapterPositions:
    """Where the weights of one adapter are in `initial_weights`.

    Attributes:
      a: Position of A among the trainable weights, or with `Lora.freeze_a` among the others.
      b: Position of B among the trainable weights.
      residual: Position of the residual among the other weights, or None.
    """

    a: int
    b: int
    residual: int | None


class TransformerModel(tff.learning.models.FunctionalModel):
    """A `FunctionalModel` that remembers the Keras model it came from.

    Attributes:
      keras_model: The model; its variables keep the initial values until `assign` is called.
      objective: The `Objective` it is trained on.
      lora: How it is adapted, or None.
      adapters: The adapters, with their initial values until `assign` or `read` is called; empty without `lora`.
      adapter_positions: Where their weights are among the model's.
      graphs: From whether it is trained or evaluated to its function (values of `variables`, x) -> predictions.
      num_personal: Number of personal weights, the last of those that are not trainable for the server: each client
        trains them and has its own; these are the values that it begins with.
    """

    def __init__(self, *, function, trainable, non_trainable, objective, graphs, input_spec, num_personal=0):
        self.keras_model = function.model
        self.objective = objective
        self.graphs = graphs
        self.num_personal = num_personal
        self.lora = function.lora if isinstance(function, LoraFunction) else None
        self._function, self._trainable, self._non_trainable = function, trainable, non_trainable
        position = {id(v): i for i, v in enumerate((*trainable, *non_trainable))}
        self._order = [position[id(v)] for v in function.variables]
        self.adapters = () if self.lora is None else tuple(function.adapters)
        self.adapter_positions = self._adapter_positions()
        dtypes = {id(v): dtype for v, dtype in zip(function.variables, function.dtypes)}
        self._weights_file = None
        self._predict_fn = tf.autograph.experimental.do_not_convert(self._predict)
        super().__init__(
            initial_weights=(
                tuple(v.numpy() for v in trainable),
                tuple(tf.cast(v, dtypes[id(v)]).numpy() for v in non_trainable),
            ),
            predict_on_batch_fn=tf.function(self._predict, autograph=False),
            loss_fn=objective.loss_fn,
            metrics_fns=objective.metrics_fns,
            input_spec=input_spec,
        )

    def predict_on_batch(self, model_weights: Any, x: Any, training: bool = True) -> tf.Tensor:
        """The predictions for `x`: as in the base class, without a `tf.function` around the model's graph.

        Each level of functions costs as much to differentiate as the model itself.
        """
        return self._predict_fn(model_weights, x, training)

    def _predict(self, model_weights, x, training):
        return self.graphs(bool(training))(self.in_order(model_weights), x)

    def in_order(self, model_weights: Any) -> list:
        """The values of `variables`, of (trainable, non-trainable) weights."""
        flat = [*model_weights[0], *model_weights[1]]
        return [flat[i] for i in self._order]

    @property
    def variables(self) -> list:
        """All variables, of the Keras model and of adapters, in the order in which the graphs take their values."""
        return list(self._function.variables)

    @property
    def fingerprint(self) -> str:
        """Changes when the initial weights do, or the configuration, wherever the model was loaded from."""
        config = getattr(self.keras_model, "config", None)
        changing = ("_name_or_path", "architectures")  # to save a model changes the latter
        facts = {} if config is None else {k: v for k, v in config.to_dict().items() if k not in changing}
        weights = digest(tf.nest.flatten(self._initial_weights))
        return hashlib.sha256((weights + json.dumps(facts, sort_keys=True, default=str)).encode()).hexdigest()

    @property
    def is_changing(self) -> list[bool]:
        """Whether rounds change each of `variables`: it is trained, or the residual of an adapter."""
        residuals = (adapter.residual for adapter in self.adapters)
        changing = {id(v) for v in (*self._trainable, *self._personal, *residuals)}
        return [id(v) in changing for v in self._function.variables]

    def with_graphs(self, graphs: Callable[[bool], Callable], x_spec: Mapping[str, tf.TensorSpec]) -> TransformerModel:
        """A model of the same weights and objective that computes predictions by other graphs, from other inputs."""
        return TransformerModel(
            function=self._function,
            trainable=self._trainable,
            non_trainable=self._non_trainable,
            objective=self.objective,
            graphs=graphs,
            input_spec=(x_spec, self.objective.label_spec),
            num_personal=self.num_personal,
        )

    def at_dropout(self, rate: tf.Tensor) -> TransformerModel:
        """The same model, for use within the graph of `rate` alone: in training all its dropout layers drop at it.

        Args:
          rate: Float32 scalar.

        Raises:
          UserError: If it has no dropout layers.
        """
        found, trained = copy.copy(self), self.graphs.at_any_rate()

        def graphs(training):
            if not training:
                return self.graphs(training)
            return lambda values, x: trained(True)(values, collections.OrderedDict(x, **{dropout.RATE: rate}))

        found.graphs = graphs
        found._predict_fn = tf.autograph.experimental.do_not_convert(found._predict)
        return found

    @property
    def initial_weights(self) -> tuple[tuple, tuple]:
        """(trainable, others): NumPy arrays; where a graph is made, tensors that are read when it runs."""
        if tf.executing_eagerly():
            return self._initial_weights
        with internals.lock:
            if self._weights_file is None:
                self._weights_file = WeightsFile(tf.nest.flatten(self._initial_weights))
        tensors, num_trainable = self._weights_file.tensors(), len(self._initial_weights[0])
        return tuple(tensors[:num_trainable]), tuple(tensors[num_trainable:])

    @property
    def trainable_names(self) -> tuple[str, ...]:
        """Names of the trainable weights, in the order of `initial_weights[0]`."""
        return tuple(v.name for v in self._trainable)

    @property
    def non_trainable_names(self) -> tuple[str, ...]:
        """Names of the other weights, in the order of `initial_weights[1]`."""
        return tuple(v.name for v in self._non_trainable)

    @property
    def personal_names(self) -> list[str]:
        """Names of the personal weights, see `trainable.by_name`."""
        return self._names(self._personal)

    @property
    def trained_names(self) -> list[str]:
        """Names of the weights that clients train, see `trainable.by_name`; with adapters none."""
        return [] if self.lora is not None else self._names([*self._trainable, *self._personal])

    @property
    def adapted_names(self) -> list[str]:
        """Names of the weights that adapters adapt, see `trainable.by_name`."""
        return self._names([adapter.weight for adapter in self.adapters])

    @property
    def positions_beside_adapters(self) -> dict[str, int]:
        """Positions of those trainable weights that are the Keras model's own, by name."""
        names = {id(v): name for name, v in trainable_lib.by_name(self.keras_model).items()}
        return {names[id(v)]: i for i, v in enumerate(self._trainable) if id(v) in names}

    def _names(self, variables):
        names = {id(v): name for name, v in trainable_lib.by_name(self.keras_model).items()}
        return [names[id(v)] for v in variables]

    @property
    def _personal(self) -> list:
        return self._non_trainable[len(self._non_trainable) - self.num_personal :]

    def positions(self, names: Sequence[str]) -> tuple[int, ...]:
        """The positions of weights of the Keras model, by name, among all: trainable, then others."""
        variables = trainable_lib.by_name(self.keras_model)
        position = {id(v): i for i, v in enumerate((*self._trainable, *self._non_trainable))}
        return tuple(position[id(variables[name])] for name in names)

    def _adapter_positions(self):
        at = {id(v): i for part in (self._trainable, self._non_trainable) for i, v in enumerate(part)}
        return tuple(
            AdapterPositions(
                at[id(adapter.a)], at[id(adapter.b)], None if adapter.residual is None else at[id(adapter.residual)]
            )
            for adapter in self.adapters
        )

    def assign(self, weights: Any) -> None:
        """Writes `weights`, a `tff.learning.models.ModelWeights`, into the Keras model; adapters are merged into it."""
        self.read(weights)
        if self.lora is not None:
            self._function.merge()

    def read(self, weights: Any) -> None:
        """Writes `weights` into the variables of the Keras model and of the adapters, unmerged."""
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
                variable.assign(tf.cast(value, variable.dtype))


def functional_model(
    model: Any,
    objective: Any,
    x_spec: Any,
    *,
    output_fn: Callable[[Any], tf.Tensor] | None = None,
    trainable: str = "all",
    personal: str | None = None,
    lora: Lora | None = None,
    gradient_checkpointing: bool = False,
    frozen_dtype: str = "float32",
    frozen_dropout: bool = True,
) -> TransformerModel:
    """Makes a built Keras model a `FunctionalModel` trained on `objective`.

    Trainable are those of the model's trainable weights that `trainable` names and on which the loss
    depends; frozen weights, and weights the loss never reaches (say, an unused pooler), are
    non-trainable: they have no gradient, are not updated and need not be sent.

    Args:
      model: A built `tf_keras.Model` or `tf.keras.Model` (Sequential, functional, subclassed, or
        Hugging Face).
      objective: A `tff_tx.models.Objective`: loss, metrics and the spec of the labels.
      x_spec: Structure of `tf.TensorSpec` of one batch of inputs, first dimension None. If it is a
        mapping with the key `tff_tx.models.SEED`, that input seeds dropout and is not passed to the model;
        without it dropout is Keras' own. A mapping that has every argument which the model's
        `call` requires (`inputs` for a Keras Sequential) is passed as keyword arguments, any other
        as the first argument.
      output_fn: Takes what the model returns to the tensor of predictions [batch, ...]; by default
        the logits (or the last hidden state) of a Hugging Face output, or the output itself.
      trainable: What is trained: "all", "head", "bias", "layers:" and a regular expression that is
        searched in the names of weights, or "lora"; see `tff_tx.models.trainable.selected`.
      personal: Which of the trained weights are personal, see `TransformerModel.num_personal`: "head", "norms", or
        "layers:" and a regular expression; see `tff_tx.models.trainable.personal`. None: none.
      lora: With "lora", how the model is adapted. The head of a classifier, or of a model that answers questions, is
        trained along, as it is new.
      gradient_checkpointing: Whether training keeps of each Transformer block only what goes into it, and computes it
        again for the gradients: less memory for more time. They are the same.
      frozen_dtype: "float32", or "bfloat16" to hold weights that are not trained in half of the bytes, rounded, and
        cast them where they are used.
      frozen_dropout: Whether dropout also drops what no trained weight has touched. Without it, all that is below the
        lowest trained weight is a function of the example, for `FeatureExtractor` to compute once.

    Raises:
      StatefulModelError: If training changes a variable (BatchNormalization).
      UserError: If the model is not built, uses variables that are not attributes of its layers,
        adds a loss of its own (a regularizer), which would be silently lost, draws random
        numbers that a seed cannot reach, has none of the weights that are to be trained, no blocks to compute again, or
        no weights that are frozen.
    """
    if not model.built or not model.weights:
        raise UserError(
            f"{type(model).__name__} has no weights yet: call it once on a batch (or build it) "
            "before making it a functional model."
        )
    requirements.require_fit_model(model)
    function, adapters, chosen = _select(model, objective, trainable, lora)
    function.frozen_norms = requirements.frozen_norms(model, chosen)
    wanted = {id(v) for v in chosen}
    is_frozen = [id(v) not in wanted for v in function.variables]
    function.frozen = frozenset(i for i, frozen in enumerate(is_frozen) if frozen)
    if gradient_checkpointing:
        _recompute_blocks(function, x_spec)
    if frozen_dtype != "float32":
        _hold_frozen(function, frozen_dtype, trainable)
    graphs = graphs_lib.ModelGraphs(function, x_spec, output_fn or graphs_lib.first_output, is_frozen, frozen_dropout)
    reachable = graphs_lib.reachable_from_loss(graphs(training=True))
    is_trainable = [not frozen and hit for frozen, hit in zip(is_frozen, reachable)]
    _require_reachable(function, adapters, reachable)
    if not any(is_trainable):
        raise UserError(
            f"{setting('model.trainable')}={trainable}: the loss of {type(model).__name__} depends on none of "
            f"{trainable_lib.some_names(chosen)}: train others."
        )
    trained = [v for v, t in zip(function.variables, is_trainable) if t]
    own = trainable_lib.personal(model, trained, personal) if personal else []
    kept = {id(v) for v in own}
    return TransformerModel(
        function=function,
        trainable=[v for v in trained if id(v) not in kept],
        non_trainable=[*(v for v, t in zip(function.variables, is_trainable) if not t), *own],
        objective=objective,
        graphs=graphs,
        input_spec=(x_spec, objective.label_spec),
        num_personal=len(own),
    )


def _select(model, objective, trainable, lora):
    """The model as a function, its adapters, and the variables that are to be trained."""
    chosen = trainable_lib.selected(model, trainable)
    if trainable != "lora":
        return KerasFunction(model), [], chosen
    function = LoraFunction(model, lora or Lora())
    chosen = chosen if objective.new_head else []
    for adapter in function.adapters:
        chosen += [adapter.b] if function.lora.freeze_a else [adapter.a, adapter.b]
    return function, function.adapters, chosen


def _require_reachable(function, adapters, reachable):
    """Rejects adapters of weights that the predictions do not depend on."""
    hit = {id(v) for v, is_hit in zip(function.variables, reachable) if is_hit}
    if lost := [adapter.weight for adapter in adapters if id(adapter.b) not in hit]:
        raise UserError(
            f"the predictions of {type(function.model).__name__} do not depend on {trainable_lib.some_names(lost)}: "
            f"leave them out with {setting('lora.targets')}."
        )


def _recompute_blocks(function, x_spec):
    if randomness.split_seed(x_spec)[1] is None:
        raise UserError(
            f"{setting('model.gradient_checkpointing')} draws dropout twice, which only a seed makes the same: add "
            f"{randomness.SEED!r} to the inputs."
        )
    function.recomputed = transformer_blocks(function.model)


def _hold_frozen(function, dtype, trainable):
    if dtype not in DTYPES:
        raise UserError(f"{setting('model.frozen_dtype')}={dtype}: must be one of {', '.join(DTYPES)}.")
    positions = {id(v): i for i, v in enumerate(function.variables)}
    # Without what adapters add: the server changes it, by less than bfloat16 has digits for.
    held = {positions[id(v)] for v in function.model.weights if v.dtype == tf.float32} & function.frozen
    if not held:
        raise UserError(
            f"{setting('model.frozen_dtype')}={dtype} has no effect with {setting('model.trainable')}={trainable}, "
            f"which trains all weights; "
            f"remove it or train a part of the model, as with {setting('model.trainable')}=lora."
        )
    for position in held:
        function.dtypes[position] = tf.as_dtype(dtype)
    within = {id(layer) for block in function.recomputed for layer in block.submodules}
    dense = dense_layers(function.model)
    # Or the cast kernel would stay in memory from the forward to the backward pass.
    function.recomputed += [
        dense[id(function.variables[i])]
        for i in sorted(held)
        if id(function.variables[i]) in dense and id(dense[id(function.variables[i])]) not in within
    ]
