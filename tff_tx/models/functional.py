"""Any Keras or Hugging Face model as a `tff.learning.models.FunctionalModel`.

TFF's own `functional_model_from_keras` clones the model, which Hugging Face classes (subclassed, of `tf_keras`) do not
allow. Here the model stays as it is, and what is traced is a pure function of weights and data: see `keras_function`.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.errors import UserError
from tff_tx.models import graphs as graphs_lib
from tff_tx.models import refusals
from tff_tx.models.keras_function import KerasFunction


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
        self._predict_fn = tf.autograph.experimental.do_not_convert(predict_fn)
        super().__init__(
            initial_weights=(
                tuple(v.numpy() for v in trainable),
                tuple(v.numpy() for v in non_trainable),
            ),
            predict_on_batch_fn=tf.function(predict_fn, autograph=False),
            loss_fn=objective.loss_fn,
            metrics_fns=objective.metrics_fns,
            input_spec=input_spec,
        )

    def predict_on_batch(self, model_weights: Any, x: Any, training: bool = True) -> tf.Tensor:
        """The predictions for `x`: as in the base class, without a `tf.function` around the model's graph.

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
        mapping with the key `tff_tx.models.SEED`, that input seeds dropout and is not passed to the model;
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
    refusals.refuse_unfit_model(model)
    function = KerasFunction(model)
    graphs = graphs_lib.ModelGraphs(function, x_spec, output_fn or graphs_lib.first_output)
    reached = graphs_lib.reached(graphs(training=True))
    wanted = {id(v) for v in model.trainable_weights}
    is_trainable = [id(v) in wanted and hit for v, hit in zip(function.variables, reached)]
    order = _merge_order(is_trainable)

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


def _merge_order(is_trainable: list[bool]) -> list[int]:
    """Positions of the model's variables in the concatenation (trainable, non_trainable)."""
    return list(np.argsort(np.argsort([not t for t in is_trainable], kind="stable"), kind="stable"))
