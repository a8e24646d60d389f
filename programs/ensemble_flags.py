"""The flags of ensemble distillation on the server: which models are federated, and how they learn from one another."""

from __future__ import annotations

import dataclasses
import json

from absl import flags

from programs import model_flags
from tff_tx import tasks
from tff_tx.algorithms.distillation import TEACHERS, EnsembleDistillation
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_multi_string(
    "group",
    [],
    'A group of clients with a model of its own, as JSON: {"name": "small", "architecture": "distilbert", '
    '"model_config": {"dim": 128}}, or with "pretrained". What is not there is as the other flags say. Several: '
    "--seed deals the clients to them evenly. Default: all clients have the model of the other flags.",
)
flags.DEFINE_integer("ensemble_steps", 100, "Steps of distillation on the server a round; 0: none.")
flags.DEFINE_integer("ensemble_batch_size", 64, "Public examples a step.", lower_bound=1)
flags.DEFINE_float("ensemble_learning_rate", 1e-3, "Adam's rate in the first of a round's steps; it falls to 0.")
flags.DEFINE_enum(
    "teachers",
    "clients",
    TEACHERS,
    "Whose mean logits are learned: those of all clients' models of the round (FedDF), or of all groups' models, for "
    "which the server sees averages only.",
)

_FIELDS = ("name", "architecture", "pretrained", "model_config")
_MEAN_ONLY = {
    "server_optimizer": "sgd",
    "server_learning_rate": 1.0,
    "server_momentum": 0.0,
    "server_schedule": None,
    "warmup_rounds": 0,  # of the server's rate, too
}
_NOT_HERE = ("compression", "download_compression", "error_feedback", "local_dp_clip", "example_clip")


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    distillation()
    for name in _NOT_HERE:
        if FLAGS[name].value != FLAGS[name].default:
            raise UserError(f"--{name}={FLAGS[name].value} is not for programs.distill: drop it.")
    if FLAGS.engine == "ray":
        raise UserError("--engine=ray is not for programs.distill: use local or tff_native.")
    if not FLAGS.validation_fraction and not FLAGS.validation_data:
        raise UserError(
            "the server has no public data: give it a part of the data with --validation_fraction, or files with "
            "--validation_data. Of their labels no use is made."
        )
    names = [name for name, _ in group_specs()]
    if FLAGS.teachers == "groups" and len(names) == 1 and FLAGS.ensemble_steps:
        raise UserError("--teachers=groups with a single --group would teach it what it knows: use clients.")
    if FLAGS.teachers == "clients" and FLAGS.ensemble_steps:
        _check_clients_teach()


def _check_clients_teach():
    if FLAGS.engine != "local":
        raise UserError(
            f"--teachers=clients hears each client's model as it comes in, which --engine={FLAGS.engine} does not "
            "show: use --engine=local, or --teachers=groups."
        )
    if FLAGS.algorithm not in ("fed_avg", "fed_prox"):
        raise UserError(
            f"--teachers=clients needs clients that send their model, and those of --algorithm={FLAGS.algorithm} do "
            "not: use fed_avg or fed_prox, or --teachers=groups."
        )
    for name, value in _MEAN_ONLY.items():
        if FLAGS[name].value != value:
            raise UserError(
                f"--{name}={FLAGS[name].value} makes another model of a client's update than the client's own, which "
                "--teachers=clients needs: drop it, or use --teachers=groups."
            )


def distillation() -> EnsembleDistillation:
    """How the server distills.

    Raises:
      UserError: If a value has no meaning.
    """
    return EnsembleDistillation(FLAGS.ensemble_steps, FLAGS.ensemble_learning_rate, FLAGS.teachers)


def group_specs() -> list[tuple[str, tasks.ModelSpec]]:
    """The groups' names and models, which share a tokenizer: predictions of other tokens could not be compared.

    Raises:
      UserError: If a --group cannot be read, or names are not distinct.
    """
    if not FLAGS.group:
        return [("model", model_flags.model_spec())]
    groups = [_parse(text) for text in FLAGS.group]
    names = [group["name"] for group in groups]
    if len(set(names)) < len(names):
        raise UserError(f"--group: the names {', '.join(names)} are not distinct: change one.")
    specs = [_spec(group) for group in groups]
    tokenizer = FLAGS.tokenizer or next(
        (s.tokenizer or s.pretrained for s in specs if s.tokenizer or s.pretrained), None
    )
    return [(name, dataclasses.replace(spec, tokenizer=tokenizer)) for name, spec in zip(names, specs)]


def _parse(text):
    try:
        group = json.loads(text)
    except ValueError as error:
        raise UserError(f"--group={text} is not JSON: {error}.") from error
    if not isinstance(group, dict) or not set(group) <= set(_FIELDS):
        raise UserError(f"--group={text} is not a JSON object with {', '.join(_FIELDS)} and nothing else.")
    name = group.get("name")
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_" for c in name):
        raise UserError(f'--group={text} needs a "name" of letters, digits, - and _, which columns and files have.')
    if not isinstance(group.get("model_config", {}), dict):
        raise UserError(f'--group={text}: "model_config" is not a JSON object.')
    return group


def _spec(group):
    config = group.get("model_config", {})
    if "architecture" not in group and "pretrained" not in group:
        base = model_flags.model_spec()
        return dataclasses.replace(base, config={**base.config, **config})
    return tasks.ModelSpec(
        pretrained=group.get("pretrained"),
        architecture=group.get("architecture"),
        config=config,
        max_length=FLAGS.max_length,
    )
