"""FedGKD's term: the server's models teach clients while these train."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.capabilities import CLIENT_OPTIMIZER, CLIENT_TRANSFORMS
from tff_tx.algorithms.client.transforms import Broadcast, ClientTransform, Context
from tff_tx.core.errors import UserError, setting
from tff_tx.models import IGNORED, check_predicts_classes, distillation_loss


@dataclasses.dataclass(frozen=True)
class Distillation(ClientTransform):
    """Adds gamma/2 T^2 KL(teacher || client's model) to the client's loss, over its predictions.

    Yao et al. 2021, https://arxiv.org/abs/2107.00051, section 3. The teacher is the model that the client got, or the
    average of the weights of the server's last ones; it predicts without dropout. Items without a label do not count.
    The temperature T and its square are Hinton et al.'s; the paper has T = 1.

    Attributes:
      weight: gamma; 0 is plain training.
      temperature: T, by which the logits of both are divided.
      models: M, of how many of the server's last models the teacher is the average; with more than one it is sent to
        clients besides the model. In the first rounds there are fewer.

    Raises:
      UserError: At construction, if a number is out of range.
    """

    weight: float
    temperature: float = 1.0
    models: int = 1

    requires = frozenset({CLIENT_TRANSFORMS, CLIENT_OPTIMIZER})

    def __post_init__(self):
        if not 0 <= self.weight < math.inf:
            raise UserError(f"{setting('algorithm.distillation_weight')}={self.weight}: must be at least 0.")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"{setting('algorithm.distillation_temperature')}={self.temperature}: must be above 0.")
        if self.models < 1:
            raise UserError(f"{setting('algorithm.distillation_models')}={self.models}: must be at least 1.")

    @property
    def is_identity(self) -> bool:
        return self.weight == 0

    def check(self, model: tff.learning.models.FunctionalModel, options: Any) -> None:
        check_predicts_classes(model)

    def loss(self, context: Context, x: Any, y: Any, output: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        teacher = context.received.get(self, context.server)
        taught = context.model.predict_on_batch((teacher, context.frozen), x, training=False)
        counted = tf.not_equal(y, IGNORED)
        return loss + self.weight / 2 * distillation_loss(taught, output, counted, self.temperature)

    def broadcast(self, weights_type: tff.Type) -> Broadcast | None:
        """The average of the trainable weights of the server's last models; the state holds M - 1 of them."""
        return _last_models(weights_type, self.models) if self.models > 1 else None


def _last_models(weights_type: tff.Type, models: int) -> Broadcast:
    specs = [tf.TensorSpec(t.shape, t.dtype) for _, t in tff.structure.iter_elements(weights_type.trainable)]

    @tff.tensorflow.computation
    def initialize():
        zeros = tuple(tf.zeros(spec.shape, spec.dtype) for spec in specs)
        return collections.OrderedDict(number=0, models=(zeros,) * (models - 1))

    @tff.tensorflow.computation(initialize.type_signature.result, weights_type)
    def next_fn(past, weights):
        current = tuple(weights.trainable)
        all_models = zip(current, *past["models"])
        number = 1.0 + tf.cast(past["number"], tf.float32)
        teacher = tuple(tf.add_n(w) / tf.cast(number, w[0].dtype) for w in all_models)
        remembered = collections.OrderedDict(
            number=tf.minimum(past["number"] + 1, models - 1), models=(current, *past["models"][:-1])
        )
        return remembered, teacher

    return Broadcast(initialize, next_fn)
