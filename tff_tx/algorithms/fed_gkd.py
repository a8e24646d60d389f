"""FedGKD (Yao et al. 2021): the server's models teach the clients' while these train."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.models import IGNORED, distillation_loss


@dataclasses.dataclass(frozen=True)
class GlobalDistillation:
    """The term that FedGKD adds to a client's loss: gamma / 2 T^2 KL(teacher || client's model), over its predictions.

    https://arxiv.org/abs/2107.00051, section 3. The teacher is the model that the client got, or the average of the
    weights of the last ones; it predicts without dropout. Items without a label do not count. The temperature T and its
    square are Hinton et al.'s; the paper has T = 1.

    Attributes:
      weight: gamma; 0: none of it.
      temperature: T, by which the logits of both are divided.
      models: M, of how many of the server's last models the teacher is the average; with more than one it is sent to
        clients besides the model. In the first rounds there are fewer.

    Raises:
      UserError: At construction, if a number has no meaning.
    """

    weight: float
    temperature: float = 1.0
    models: int = 1

    def __post_init__(self):
        if not 0 <= self.weight < math.inf:
            raise UserError(f"--distillation_weight={self.weight} has to be 0 or more.")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"--distillation_temperature={self.temperature} has to be above 0.")
        if self.models < 1:
            raise UserError(f"--distillation_models={self.models} has to be 1 or more.")

    def term(
        self, model: tff.learning.models.FunctionalModel, teacher: Any, x: Any, y: tf.Tensor, output: tf.Tensor
    ) -> tf.Tensor:
        """The term for one batch, scalar float32.

        Args:
          model: Of teacher and client.
          teacher: The teacher's (trainable, other) weights.
          x: A batch of inputs.
          y: Its labels.
          output: The client's logits, one more dimension than `y`.
        """
        taught = model.predict_on_batch(teacher, x, training=False)
        return self.weight / 2 * distillation_loss(taught, output, tf.not_equal(y, IGNORED), self.temperature)


def build_teacher_distributor(
    distributor: tff.learning.templates.DistributionProcess, weights_type: tff.Type, models: int
) -> tff.learning.templates.DistributionProcess:
    """A distributor that also broadcasts the average of the server's last models.

    Args:
      distributor: By which clients get the model.
      weights_type: Of the model, `ModelWeights`.
      models: M, 2 or more: a state holds M - 1 of them.

    Returns:
      <S@SERVER, ModelWeights@SERVER> -> OrderedDict(model=ModelWeights, teacher=trainable)@CLIENTS.
    """
    trainable_type = weights_type.trainable
    specs = [tf.TensorSpec(t.shape, t.dtype) for _, t in tff.structure.iter_elements(trainable_type)]

    @tff.tensorflow.computation
    def nothing():
        zeros = tuple(tf.zeros(spec.shape, spec.dtype) for spec in specs)
        return collections.OrderedDict(number=0, models=(zeros,) * (models - 1))

    past_type = nothing.type_signature.result

    @tff.tensorflow.computation(past_type, trainable_type)
    def average(past, current):
        all_models = zip(*(tf.nest.flatten(m) for m in (current, *past["models"])))
        number = 1.0 + tf.cast(past["number"], tf.float32)
        return tuple(tf.add_n(weights) / tf.cast(number, weights[0].dtype) for weights in all_models)

    @tff.tensorflow.computation(past_type, trainable_type)
    def remember(past, current):
        return collections.OrderedDict(
            number=tf.minimum(past["number"] + 1, models - 1),
            models=(tuple(tf.nest.flatten(current)), *past["models"][:-1]),
        )

    @tff.federated_computation
    def initialize():
        return tff.federated_zip((distributor.initialize(), tff.federated_eval(nothing, tff.SERVER)))

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(weights_type, tff.SERVER))
    def next_fn(state, weights):
        output = distributor.next(state[0], weights)
        teacher = tff.federated_broadcast(tff.federated_map(average, (state[1], weights.trainable)))
        past = tff.federated_map(remember, (state[1], weights.trainable))
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((output.state, past)),
            tff.federated_zip(collections.OrderedDict(model=output.result, teacher=teacher)),
            output.measurements,
        )

    return tff.learning.templates.DistributionProcess(initialize, next_fn)
