"""Distillation losses."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError, setting


def distillation_loss(
    teacher_logits: tf.Tensor, student_logits: tf.Tensor, counted: tf.Tensor, temperature: float = 1.0
) -> tf.Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over counted items.

    Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", https://arxiv.org/abs/1503.02531,
    section 2: the factor T^2 keeps the gradient's size where T changes. The entropy of the teacher is subtracted, which
    their cross-entropy has not, so that it is 0 where both agree.

    Args:
      teacher_logits: [..., classes]; has no gradient.
      student_logits: [..., classes].
      counted: bool [...], which items count: examples, or tokens that have a label.
      temperature: T, above 0.

    Returns:
      Scalar float32, nats; 0 if nothing counts.
    """
    teacher = tf.nn.log_softmax(tf.stop_gradient(tf.cast(teacher_logits, tf.float32)) / temperature)
    student = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
    divergences = tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)
    counted = tf.cast(counted, tf.float32)
    return temperature**2 * tf.math.divide_no_nan(tf.reduce_sum(divergences * counted), tf.reduce_sum(counted))


def check_predicts_classes(model: tff.learning.models.FunctionalModel) -> None:
    """Rejects models to whose predictions `distillation_loss` does not apply, as to forecasts of numbers.

    Raises:
      UserError: If predictions are not of classes, from inputs alone.
    """
    label_spec = model.input_spec[1]
    objective = getattr(model, "objective", None)
    problem = None
    if not label_spec.dtype.is_integer:
        problem = f"the labels here are {label_spec.dtype.name} numbers"
    elif objective is not None and objective.not_classes is not None:
        problem = f"the predictions of {objective.name} are {objective.not_classes}"
    if problem is not None:
        raise UserError(
            f"distillation compares probabilities of classes, and {problem}: choose another {setting('task.kind')}, "
            f"or drop {setting('algorithm.distillation_weight')} and programs.distill."
        )
