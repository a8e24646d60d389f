"""The flags of simulated attacks."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from tff_tx.analysis import attacks
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import evaluation

FLAGS = flags.FLAGS

ATTACKS = (
    "none",
    "label_flip",
    "backdoor",
    "model_replacement",
    "sign_flip",
    "gaussian",
    "little_is_enough",
    "free_rider",
)
RECORD = "attackers.json"

flags.DEFINE_enum(
    "attack",
    "none",
    ATTACKS,
    "What attackers among the training clients do: train on flipped labels, or with a backdoor; send an update with a "
    "backdoor, scaled up (model_replacement), with the sign changed, or noise; work together to stay within the spread "
    "of the others (little_is_enough); or send nothing and take the model (free_rider).",
)
flags.DEFINE_float(
    "attackers",
    0.2,
    "Share of the training clients that attack; --seed decides which.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_float(
    "attack_scale",
    None,
    "What sign_flip (default 1) and model_replacement (default: --clients_per_round) multiply the update by; of "
    "little_is_enough the standard deviations from the mean (default: as many as the paper's majority needs).",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "attack_noise",
    None,
    "Standard deviation of what gaussian (default 1) and free_rider (default 0) send.",
    lower_bound=0.0,
)
flags.DEFINE_boolean(
    "omniscient", False, "Whether the attackers of little_is_enough know what all clients send, not only they."
)
flags.DEFINE_string("backdoor_target", None, "The label that the backdoor opens to; default: the first.")
flags.DEFINE_float(
    "backdoor_share", 0.5, "Part of an attacker's batch that has the trigger.", lower_bound=0.0, upper_bound=1.0
)
flags.DEFINE_string("backdoor_text", "cf mn bb", "The trigger in texts: their first words become these.")
flags.DEFINE_integer("backdoor_pixels", 2, "The trigger in pictures: side of a bright square.", lower_bound=1)

_WITH_BACKDOOR = ("backdoor", "model_replacement")
_ON_UPDATES = ("model_replacement", "sign_flip", "gaussian", "little_is_enough", "free_rider")
_OWNERS = {
    "attackers": ATTACKS[1:],
    "attack_scale": ("sign_flip", "model_replacement", "little_is_enough"),
    "attack_noise": ("gaussian", "free_rider"),
    "omniscient": ("little_is_enough",),
    "backdoor_target": _WITH_BACKDOOR,
    "backdoor_share": _WITH_BACKDOOR,
    "backdoor_text": _WITH_BACKDOOR,
    "backdoor_pixels": _WITH_BACKDOOR,
}


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    for flag, owners in _OWNERS.items():
        if FLAGS.attack not in owners and not FLAGS[flag].using_default_value:
            raise UserError(
                f"--{flag}={FLAGS[flag].value} belongs to --attack={' or '.join(owners)}, and --attack is "
                f"{FLAGS.attack}: drop it or change the attack."
            )
    if FLAGS.attack in _ON_UPDATES and FLAGS.algorithm not in ("fed_avg", "fed_prox"):
        raise UserError(
            f"--attack={FLAGS.attack} changes the updates of clients of fed_avg or fed_prox, and --algorithm is "
            f"{FLAGS.algorithm}: change one of them."
        )
    if FLAGS.attack == "little_is_enough" and FLAGS.attack_scale is None:
        number = _attackers_per_round()
        if number >= FLAGS.clients_per_round / 2:
            raise UserError(
                f"--attack=little_is_enough is by a minority, and --attackers={FLAGS.attackers} of "
                f"--clients_per_round={FLAGS.clients_per_round} are {number}: lower it, or set --attack_scale."
            )


def _attackers_per_round():
    return int(FLAGS.attackers * FLAGS.clients_per_round + 0.5)


def attack(task: Any) -> attacks.Attack | None:
    """What attackers do; None: there are none.

    Raises:
      UserError: If the task is none that can be attacked so.
    """
    name, scale, noise = FLAGS.attack, FLAGS.attack_scale, FLAGS.attack_noise
    if name == "none":
        return None
    if name == "label_flip":
        if "classes" not in task.definition.capabilities:
            raise UserError(f"--attack=label_flip flips classes, and --task={task.kind} has none: choose another.")
        return attacks.Attack(data=attacks.LabelFlip(len(task.label_names)))
    if name in _WITH_BACKDOOR:
        update = None
        if name == "model_replacement":
            update = attacks.ModelReplacement(FLAGS.clients_per_round if scale is None else scale)
        return attacks.Attack(_backdoor(task), update)
    if name == "sign_flip":
        return attacks.Attack(update=attacks.SignFlip(1.0 if scale is None else scale))
    if name == "gaussian":
        return attacks.Attack(update=attacks.GaussianUpdate(1.0 if noise is None else noise))
    if name == "free_rider":
        return attacks.Attack(update=attacks.FreeRider(noise or 0.0))
    z = attacks.little_is_enough_z(FLAGS.clients_per_round, _attackers_per_round()) if scale is None else scale
    return attacks.Attack(update=attacks.LittleIsEnough(z, FLAGS.omniscient))


def _backdoor(task):
    names = task.label_names
    if "one_class" not in task.definition.capabilities:
        raise UserError(
            f"--attack={FLAGS.attack} has a backdoor that opens to a class, and --task={task.kind} has no class an "
            "example: choose another attack, or a classification task."
        )
    wanted = names[0] if FLAGS.backdoor_target is None else FLAGS.backdoor_target
    if wanted not in names:
        raise UserError(f"--backdoor_target={wanted} is none of the labels {', '.join(names[:20])}.")
    if task.definition.trigger_feature == "pixel_values":
        trigger = attacks.pixel_trigger(FLAGS.backdoor_pixels)
    else:
        ids = task.tokenizer(FLAGS.backdoor_text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UserError(f"--backdoor_text={FLAGS.backdoor_text!r} has no token: set some words.")
        starts = task.tokenizer("", add_special_tokens=True)["input_ids"]
        trigger = attacks.text_trigger(ids, start=1 if len(starts) > 1 else 0)
    return attacks.Backdoor(trigger, names.index(wanted), FLAGS.backdoor_share)


def options(chosen: attacks.Attack | None) -> dict:
    """The fields of `algorithms.Options` that an attack decides."""
    if chosen is None or chosen.update is None:
        return {}
    return {"wrap_client_work": chosen.wrap_client_work}


def process(task: Any, learning_process: Any, chosen: attacks.Attack | None, run_dir: str, seed: int) -> Any:
    """The process with clients named by what a round tells them, and the attackers recorded in `run_dir`."""
    if chosen is None:
        return task.process(learning_process)
    who = attacks.choose_attackers(task.train.client_ids, FLAGS.attackers, seed)
    files.write_json(os.path.join(run_dir, RECORD), {"attack": FLAGS.attack, "attackers": who})
    return attacks.simulate(task, learning_process, chosen, who)


def evaluator(task: Any, clients: Any, chosen: attacks.Attack | None, threads: int) -> Any:
    """An `evaluation.Evaluator`, whose metrics also have `backdoor_success` where there is a backdoor."""
    batches_fn = task.eval_batches_fn(clients)
    plain = evaluation.Evaluator(task.model, batches_fn, threads)
    if chosen is None or not hasattr(chosen.data, "trap"):
        return plain
    return _WithBackdoor(plain, evaluation.Evaluator(task.model, _trapped(batches_fn, chosen.data), threads))


def _trapped(batches_fn, backdoor):
    def batches(client_id: tf.Tensor) -> tf.data.Dataset:
        return batches_fn(client_id).map(backdoor.trap)

    return batches


class _WithBackdoor:
    """An evaluator that also counts how many examples of other classes the trigger turns to the target."""

    def __init__(self, plain, trapped):
        self._plain, self._trapped = plain, trapped

    def metrics(self, weights: Any, client_ids: Sequence[str], show_progress: bool = False) -> collections.OrderedDict:
        metrics = self._plain.metrics(weights, client_ids, show_progress)
        metrics["backdoor_success"] = self._trapped.metrics(weights, client_ids, show_progress)["accuracy"]
        return metrics
