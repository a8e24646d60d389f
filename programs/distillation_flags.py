"""The flags of FedGKD: the server's models teach the clients' while these train."""

from __future__ import annotations

from absl import flags

from tff_tx.algorithms import ClientTransform, distill
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_float(
    "distillation_weight",
    0.0,
    "FedGKD: clients' losses have half of this times the divergence of their predictions from those of the model they "
    "got; 0.2 is the paper's. 0: none. For fed_avg and fed_prox.",
)
flags.DEFINE_float("distillation_temperature", 1.0, "By which the logits of both are divided.")
flags.DEFINE_integer(
    "distillation_models",
    1,
    "The teacher is the average of so many of the server's last models; with more than 1 it is sent along.",
)


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    if FLAGS.distillation_weight == 0:
        for name in ("distillation_temperature", "distillation_models"):
            if not FLAGS[name].using_default_value:
                raise UserError(
                    f"--{name}={FLAGS[name].value} is about --distillation_weight, which is 0: set that, or drop it."
                )
    elif FLAGS.algorithm not in ("fed_avg", "fed_prox", "fed_gkd"):
        raise UserError(
            f"--distillation_weight={FLAGS.distillation_weight} is for clients of fed_avg or fed_prox, and "
            f"--algorithm is {FLAGS.algorithm}: change one of them."
        )
    distillation()


def distillation() -> ClientTransform | None:
    """FedGKD's term, if it is asked for.

    Raises:
      UserError: If a number has no meaning.
    """
    if FLAGS.distillation_weight == 0:
        return None
    return distill(FLAGS.distillation_weight, FLAGS.distillation_temperature, FLAGS.distillation_models)


def kept_bytes(trainable_bytes: int) -> int:
    """Bytes of the past models in a checkpoint.

    Args:
      trainable_bytes: Of the trainable weights.
    """
    return (FLAGS.distillation_models - 1) * trainable_bytes
