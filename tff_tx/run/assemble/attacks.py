"""Attackers and canaries of a configuration."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import tasks
from tff_tx.analysis import attacks, auditing
from tff_tx.config import RunConfig
from tff_tx.config.registries import ATTACKS
from tff_tx.core import files
from tff_tx.run import evaluation

ATTACKERS = "attackers.json"
_MOST_CLASSES = 30


def build_attack(config: RunConfig, task: tasks.FederatedTask) -> attacks.Attack | None:
    """The attackers' behaviour; None: there are no attackers.

    Raises:
      UserError: If the task cannot be attacked so.
    """
    kind = ATTACKS[config.attack.name]
    return None if kind.build is None else kind.build(config.attack, config.cohort.clients_per_round, task)


def option_parts(attack: attacks.Attack | None) -> dict[str, Any]:
    """The fields of `algorithms.Options` that an attack decides."""
    if attack is None or attack.update is None:
        return {}
    return {"wrap_client_work": attack.wrap_client_work}


def named_process(
    config: RunConfig,
    task: tasks.FederatedTask,
    process: tff.learning.templates.LearningProcess,
    attack: attacks.Attack | None,
) -> tff.learning.templates.LearningProcess:
    """The process with clients named by `tasks.client_arguments` in place of data sets, attackers among them."""
    if attack is None:
        return task.process(process)
    return attacks.simulate(task, process, attack, choose_attackers(config, task))


def choose_attackers(config: RunConfig, task: tasks.FederatedTask) -> list[str]:
    """Ids of the training clients that attack, if there is an attack."""
    return attacks.choose_attackers(task.train.client_ids, config.attack.share, config.run.seed)


def record_attackers(config: RunConfig, task: tasks.FederatedTask, attack: attacks.Attack | None, run_dir: str) -> None:
    """Writes `attackers.json` into a run directory, if there are attackers."""
    if attack is not None:
        record = {"attack": config.attack.name, "attackers": choose_attackers(config, task)}
        files.write_json(os.path.join(run_dir, ATTACKERS), record)


def build_evaluator(
    task: tasks.FederatedTask,
    clients: Any,
    attack: attacks.Attack | None,
    threads: int,
    own_fn: Any = None,
    prepare_fn: Any = lambda client_ids, on_progress: None,
) -> evaluation.Evaluator:
    """The evaluator of a split's ClientData, whose metrics include `backdoor_success` if there is a backdoor.

    `own_fn` and `prepare_fn` are as of `evaluation.Evaluator`.
    """
    batches_fn = task.eval_batches_fn(clients)
    if attack is None or not hasattr(attack.data, "trap"):
        counts = "class_probabilities" in task.definition.capabilities
        classes = _shown_classes(task)
        return evaluation.Evaluator(task.model, batches_fn, threads, counts, own_fn, classes, prepare_fn)

    def trapped(client_id: tf.Tensor) -> tf.data.Dataset:
        return batches_fn(client_id).map(attack.data.trap)

    return _BackdoorEvaluator(task.model, batches_fn, trapped, threads, own_fn)


def _shown_classes(task):
    """The number of classes of a task whose confusion can be shown, else 0."""
    classes = len(task.label_names) if "classes" in task.definition.capabilities else 0
    return classes if classes <= _MOST_CLASSES else 0


class _BackdoorEvaluator(evaluation.Evaluator):
    """Also evaluates the share of other classes' examples that the trigger turns to the target."""

    def __init__(self, model, batches_fn, trapped_fn, threads, own_fn):
        super().__init__(model, batches_fn, threads, own_fn=own_fn)
        self._trapped = evaluation.Evaluator(model, trapped_fn, threads, own_fn=own_fn)

    def metrics(self, weights: Any, client_ids: Sequence[str], show_progress: bool = False) -> collections.OrderedDict:
        return self.evaluate(weights, client_ids, show_progress)[0]

    def evaluate(self, weights: Any, client_ids: Sequence[str], show_progress: bool = False, own: bool = True, **more):
        metrics, by_client = super().evaluate(weights, client_ids, show_progress, own, **more)
        trapped, _ = self._trapped.evaluate(weights, client_ids, show_progress, own)
        metrics["backdoor_success"] = trapped["accuracy"]
        return metrics, by_client


def insert_canaries(config: RunConfig, task: tasks.FederatedTask) -> tuple[tasks.FederatedTask, list[auditing.Canary]]:
    """The task with canaries among its training clients, and all canaries, whether they are included or not."""
    own = config.canaries
    if not own.number:
        return task, []
    token_ids = _token_ids(task.tokenizer)
    canaries = auditing.make_canaries(own.number, own.repetitions, own.length, token_ids, config.run.seed)
    return dataclasses.replace(task, train=auditing.WithCanaries(task.train, canaries)), canaries


def record_canaries(
    config: RunConfig, task: tasks.FederatedTask, canaries: Sequence[auditing.Canary], run_dir: str
) -> None:
    """Writes `canaries.json` into a run directory, if there are canaries."""
    if canaries:
        auditing.write_canaries(run_dir, canaries, _token_ids(task.tokenizer), config.run.seed)


def _token_ids(tokenizer):
    """Ids of all tokens but special ones."""
    return sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
