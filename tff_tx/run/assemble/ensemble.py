"""A run with ensemble distillation on the server, put together from its configuration."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Callable

import psutil

from tff_tx import privacy, runtime, tasks
from tff_tx.algorithms import distillation
from tff_tx.config import RunConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run.assemble import processes
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.assemble.assembly import Assembly, save_model
from tff_tx.run.directory import write_config
from tff_tx.run.evaluation import Evaluator

_FIELDS = ("name", "architecture", "pretrained", "model_config")


@dataclasses.dataclass
class EnsembleAssembly(Assembly):
    """The parts of a run of FedDF: `task` is that of the first group, and `process` has the processes by group.

    Attributes:
      groups: By name, the configuration and the task of the group: the same data with its model.
    """

    groups: dict[str, tuple[RunConfig, tasks.FederatedTask]]

    @classmethod
    def build(cls, config: RunConfig, task: tasks.FederatedTask, aggregator: Any = None) -> EnsembleAssembly:
        """Loads the groups' models but the first, which `task` has.

        Raises:
          UserError: If there are no public data, or logits on them do not fit the memory.
        """
        groups = {
            name: (c, task_parts.with_training(task_parts.load_task(c) if number else task, config))
            for number, (name, c) in enumerate(group_configs(config).items())
        }
        _, first = next(iter(groups.values()))
        if first.validation is None:
            raise UserError(
                "the data have no validation split, which the server distills on: raise "
                f"{setting('data.validation_fraction')}."
            )
        _check_memory(config, first)
        accounts = privacy.build_client_side_ledgers(config, first.train.sizes().values())
        by_group = {name: _process(c, task) for name, (c, task) in groups.items()}
        return cls(config, first, [], None, None, None, accounts, by_group, groups)

    def engine(self, found: runtime.RayCluster | None = None) -> runtime.Engine:
        config, first, ensemble = self.config, self.task, self.config.ensemble
        group_of = distillation.assign_groups(first.train.client_ids, list(self.groups), config.run.seed)
        return distillation.FedDFEngine(
            {
                name: distillation.Group(task.model, processes.build_engine(c, self.process[name], task.costs()))
                for name, (c, task) in self.groups.items()
            },
            lambda client: group_of[client["client_id"].decode()],
            lambda round_num: first.public_batches(first.validation, config.run.seed, round_num, ensemble.batch_size),
            ensemble,
        )

    def evaluators(self) -> dict[str, Evaluator]:
        """Evaluators of the groups' models on the test split, by group."""
        threads = self.config.engine.num_threads
        return {
            name: Evaluator(task.model, task.eval_batches_fn(task.test), threads)
            for name, (_, task) in self.groups.items()
            if task.test is not None
        }

    def evaluate_fn(
        self, evaluators: Mapping[str, Evaluator], engine: Any
    ) -> Callable[[Any], Mapping[str, float]] | None:
        """Evaluates all groups' models on all test clients, whatever the engine."""
        if not evaluators:
            return None

        def evaluate(weights):
            found = {n: e.metrics(weights[n], self.task.test.client_ids) for n, e in evaluators.items()}
            if len(found) == 1:
                return next(iter(found.values()))
            return {f"{name}/{metric}": value for name, own in found.items() for metric, value in own.items()}

        return evaluate

    def facts(self) -> dict[str, Any]:
        found = [_facts(task) for _, task in self.groups.values()]
        parameters = {part: sum(f["parameters"][part] for f in found) for part in ("trainable", "non_trainable")}
        models = {f"model {name}": own["fingerprints"]["model"] for name, own in zip(self.groups, found)}
        prints = {**found[0]["fingerprints"], **models}
        return {**found[0], "fingerprints": prints, "parameters": parameters, "groups": list(self.groups)}

    def bytes_needed(self) -> int:
        weights = (w for _, task in self.groups.values() for part in task.model.initial_weights for w in part)
        return 6 * sum(w.nbytes for w in weights) + 20_000_000

    def evaluate_all(self, evaluators: Mapping[str, Evaluator], weights: Any, progress: bool) -> dict[str, Any]:
        """The metrics of each group's model over all test clients."""
        client_ids = self.task.test.client_ids if evaluators else ()
        return {
            "test" if len(self.groups) == 1 else f"test, {name}": evaluator.metrics(
                weights[name], client_ids, show_progress=progress
            )
            for name, evaluator in evaluators.items()
        }

    def doubts(self, results: Mapping[str, Mapping[str, float]], evaluators: Any = None) -> list[str]:
        return []

    def show_clients(self, weights: Any, run_dir: str, evaluators: Any) -> None:
        """Nothing: the models have reports of their own when they are evaluated."""

    def save(self, weights: Any, run_dir: str, evaluators: Any = None) -> None:
        """Writes the models: one into `model/`, several into `groups/NAME`, each a run directory of its own."""
        for name, (config, task) in self.groups.items():
            directory = run_dir
            if len(self.groups) > 1:
                directory = os.path.join(run_dir, "groups", name)
                files.make_directory(directory, setting("run.directory"))
                write_config(directory, config, _facts(task))
            save_model(task, weights[name], directory)

    def describe(self) -> list[str]:
        first, config = self.task, self.config
        sizes = ", ".join(f"{n} {_facts(task)['parameters']['trainable']:,}" for n, (_, task) in self.groups.items())
        return [
            f"{first.kind} on {config.data.dataset}: {len(first.train.client_ids)} train clients; trainable "
            f"parameters: {sizes}; {sum(first.validation.sizes().values()):,} public examples; {self.rounds} rounds "
            f"of {config.algorithm.name} with distillation into {config.run.directory}",
            *(note for _, task in self.groups.values() for note in task.notes),
        ]


def _process(config, task):
    options = processes.build_options(config, weighted=config.algorithm.weighted is not False)
    return task.process(processes.build_process(config, task.model, options))


def group_configs(config: RunConfig) -> collections.OrderedDict[str, RunConfig]:
    """The configurations of the groups, which share a tokenizer: predictions of other tokens cannot be compared.

    Raises:
      UserError: If a group cannot be read, or names are not distinct.
    """
    if not config.ensemble.groups:
        return collections.OrderedDict(model=config)
    parsed = [_parse(text) for text in config.ensemble.groups]
    names = [group["name"] for group in parsed]
    if len(set(names)) < len(names):
        raise UserError(f"{setting('ensemble.groups')}: the names {', '.join(names)} are not distinct: change one.")
    changed = [_model_of(config, group) for group in parsed]
    tokenizer = config.model.tokenizer or next(
        (found for c in changed if (found := c.model.tokenizer or c.model.pretrained)), None
    )
    return collections.OrderedDict((name, c.replace({"model.tokenizer": tokenizer})) for name, c in zip(names, changed))


def _parse(text):
    name = setting("ensemble.groups")
    try:
        group = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name}={text} is not JSON: {error}.") from error
    if not isinstance(group, dict) or not set(group) <= set(_FIELDS):
        raise UserError(f"{name}={text} is not a JSON object with {', '.join(_FIELDS)} and nothing else.")
    own = group.get("name")
    if not isinstance(own, str) or not own or not all(c.isalnum() or c in "-_" for c in own):
        raise UserError(f'{name}={text} needs a "name" of letters, digits, - and _, which columns and files have.')
    if not isinstance(group.get("model_config", {}), dict):
        raise UserError(f'{name}={text}: "model_config" is not a JSON object.')
    return group


def _model_of(config, group):
    own = group.get("model_config", {})
    if "architecture" not in group and "pretrained" not in group:
        return config.replace({"model.config": {**config.model.config, **own}})
    sources = {f"model.{name}": group.get(name) for name in ("architecture", "pretrained", "revision")}
    return config.replace({**sources, "model.config": own, "model.tokenizer": None})


def _facts(task):
    return task_parts.facts(task, {"train": task.train})


def _check_memory(config, task):
    """Checks that logits on public data, and sums of them, fit the memory."""
    ensemble, model = config.ensemble, task.model.keras_model.config
    classes = len(task.label_names) or model.vocab_size
    items = 1 if task.model.objective.label_spec.shape.rank == 1 else config.task.max_length
    batches = min(ensemble.steps, -(-sum(task.validation.sizes().values()) // ensemble.batch_size))
    needed = 3 * 4 * batches * ensemble.batch_size * items * classes
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{setting('ensemble.steps')}={ensemble.steps} of {setting('ensemble.batch_size')}={ensemble.batch_size} "
            f"need {needed / 1e9:.1f} GB for logits of {classes:,} classes, and {free / 1e9:.1f} GB are free: lower "
            f"one of them, or {setting('task.max_length')}."
        )
