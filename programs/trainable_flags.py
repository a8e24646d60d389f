"""The flags that say what of a model is trained and travels; `model_spec` adds them to a model's."""

from __future__ import annotations

import dataclasses

import tensorflow_federated as tff
from absl import flags

from programs import feature_flags
from tff_tx import algorithms, models, tasks
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "trainable",
    "all",
    "What is trained: all; head; bias (with the head); layers:RE, the weights in whose name the regular expression RE "
    "is found; or lora: low-rank adapters (with a classifier's head). What is not trained is sent once.",
)
flags.DEFINE_list(
    "lora_rank", ["8"], "Rank of the adapters; with several, as in 2,4,8, each client has one of them, by its name."
)
flags.DEFINE_float("lora_alpha", 16.0, "Their product is scaled by this over the largest rank.")
flags.DEFINE_string(
    "lora_targets", None, "Regular expression found in the names of adapted weights; default: queries and values."
)
flags.DEFINE_float("lora_dropout", 0.0, "Rate at which the adapters' inputs are dropped.")
flags.DEFINE_boolean("lora_freeze_a", False, "FFA-LoRA: A keeps its random values and is sent once; half the traffic.")
flags.DEFINE_enum(
    "lora_aggregation",
    "average",
    algorithms.LORA_AGGREGATIONS,
    "What becomes of clients' A and B: their averages (FedIT; with several ranks HetLoRA); averages and the residual "
    "to the average product (FedEx-LoRA); the average product, added to the weight, and new A and B (FLoRA's stack); "
    "or its best approximation of the rank (FlexLoRA's svd).",
)

flags.DEFINE_enum(
    "frozen_dtype",
    "float32",
    models.FROZEN_DTYPES,
    "In which weights that are not trained are held, sent and stored in checkpoints; bfloat16 halves them. They are "
    "cast where they are used, and the model is saved in float32.",
)

_OF_LORA = ("lora_rank", "lora_alpha", "lora_targets", "lora_dropout", "lora_freeze_a", "lora_aggregation")


def check() -> None:
    """Refuses combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    if FLAGS.frozen_dtype != "float32" and FLAGS.trainable == "all":
        raise UserError(
            f"--frozen_dtype={FLAGS.frozen_dtype} is about weights that are not trained, and --trainable=all trains "
            "all: drop it, or train a part of the model, as with --trainable=lora."
        )
    if FLAGS.trainable != "lora":
        for name in _OF_LORA:
            if not FLAGS[name].using_default_value:
                raise UserError(
                    f"--{name} belongs to --trainable=lora, and --trainable is {FLAGS.trainable}: drop it or change "
                    "that."
                )
        return
    if not needs_own_process():
        return
    cause = f"--lora_aggregation={FLAGS.lora_aggregation}"
    if FLAGS.lora_aggregation == "average":
        cause = f"--lora_rank={','.join(FLAGS.lora_rank)}, several ranks,"
    if FLAGS.algorithm not in ("fed_avg", "fed_prox"):
        raise UserError(
            f"{cause} needs --algorithm=fed_avg or fed_prox, and --algorithm is {FLAGS.algorithm}: change one of them."
        )
    if FLAGS["buffer_size"].value is not None:
        raise UserError(
            f"{cause} needs all of a round's clients to start from the same A and B, and with --buffer_size they do "
            "not: drop one of them."
        )
    if FLAGS.lora_aggregation != "average":
        for name in ("aggregator", "clipping", "zeroing", "compression", "dp_mechanism"):
            if FLAGS[name].value != FLAGS[name].default:
                raise UserError(
                    f"{cause} adds up products of clients' A and B, to which --{name}={FLAGS[name].value} does not "
                    "apply: drop it, or use average."
                )
    if FLAGS.lora_aggregation in ("stack", "svd") and (FLAGS.server_optimizer, FLAGS.server_learning_rate) != (
        "sgd",
        1,
    ):
        raise UserError(
            f"{cause} sets A and B, so that --server_optimizer and --server_learning_rate would be of the head alone: "
            "drop them."
        )


def model_spec(spec: tasks.ModelSpec) -> tasks.ModelSpec:
    """A model with what of it is trained.

    Raises:
      UserError: If a value is out of range.
    """
    lora = _lora() if FLAGS.trainable == "lora" else None
    return dataclasses.replace(
        spec,
        trainable=FLAGS.trainable,
        lora=lora,
        frozen_dtype=FLAGS.frozen_dtype,
        frozen_dropout=not feature_flags.enabled(),
    )


def needs_own_process() -> bool:
    """Whether adapters are aggregated otherwise than by averaging weights alone."""
    return FLAGS.trainable == "lora" and (FLAGS.lora_aggregation != "average" or len(set(FLAGS.lora_rank)) > 1)


def build_process(
    model: models.TransformerModel, options: algorithms.Options
) -> tff.learning.templates.LearningProcess:
    """The learning process that --algorithm and the flags above name."""
    aggregation = FLAGS.lora_aggregation if FLAGS.trainable == "lora" else "average"
    return algorithms.build_process(algorithms.ALGORITHMS[FLAGS.algorithm], model, options, aggregation)


def _lora() -> models.Lora:
    try:
        ranks = tuple(int(rank) for rank in FLAGS.lora_rank)
    except ValueError:
        raise UserError(
            f"--lora_rank={','.join(FLAGS.lora_rank)} is no list of whole numbers: give one or more."
        ) from None
    return models.Lora(
        ranks=ranks,
        alpha=FLAGS.lora_alpha,
        targets=FLAGS.lora_targets,
        dropout=FLAGS.lora_dropout,
        freeze_a=FLAGS.lora_freeze_a,
        residual=FLAGS.lora_aggregation in ("residual", "stack"),
        seed=FLAGS.seed,
    )
