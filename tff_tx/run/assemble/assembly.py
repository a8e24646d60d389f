"""A run of one model, put together from its configuration."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, Callable

import tensorflow_federated as tff

from tff_tx import models, privacy, runtime, tasks
from tff_tx.analysis import contribution
from tff_tx.config import RunConfig, laws
from tff_tx.config.capability_rules import STORED
from tff_tx.config.registries import ALGORITHMS
from tff_tx.config.run_config import describe
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import baseline, comparison, held_out
from tff_tx.run.assemble import (
    aggregation,
    attacks,
    cohorts,
    own_adapters,
    own_models,
    personal,
    processes,
    secure,
)
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.directory import MODEL

_BETTER = 0.99
"""A model that learns has a loss below this share of a constant prediction's."""


@dataclasses.dataclass
class Assembly:
    """The parts of a run.

    Attributes:
      config: The configuration, resolved.
      task: The task, with canaries if there are any.
      canaries: Those.
      attack: What attackers do, or None.
      cache: The activation cache, or None; with it, clients train on its task.
      plan: What client-level differential privacy guarantees, or None.
      accounts: What privacy inside of clients guarantees.
      process: The learning process, of clients named by `tasks.client_arguments`.
    """

    config: RunConfig
    task: tasks.FederatedTask
    canaries: list
    attack: Any
    cache: tasks.FeatureCache | None
    plan: privacy.Plan | None
    accounts: Any
    process: tff.learning.templates.LearningProcess

    @classmethod
    def build(
        cls, config: RunConfig, task: tasks.FederatedTask, aggregator: Any = None, before: Assembly | None = None
    ) -> Assembly:
        """Puts the parts together, with a factory in place of the configuration's aggregation if one is given.

        `before` are those of a run that has other rounds, and is alike in everything else: its process is taken where
        it does not depend on them, as making one takes seconds.

        Raises:
          UserError: If they do not fit.
        """
        task = task_parts.with_training(task, config)
        weights = sum(w.size for w in task.model.initial_weights[0]) * config.algorithm.num_models
        aggregation.check_memory(config, weights)
        if config.aggregation.secure in ("masks", "bfv"):
            secure.describe_sizes(config)  # rejects what no protocol withstands
        task, canaries = attacks.insert_canaries(config, task)
        cohorts.build_sampler(config, task.train.client_ids, task.train.sizes())  # rejects what cannot be sampled
        attack = attacks.build_attack(config, task)
        cache = task_parts.feature_cache(config, task)
        trained = task if cache is None else cache.task
        plan = privacy.build_plan(config, len(task.train.client_ids), weights, processes.server_rates(config))
        accounts = privacy.build_client_side_ledgers(config, task.train.sizes().values())
        if before is not None and before.plan is None and not processes.is_scheduled(config):
            return cls(config, task, canaries, attack, cache, plan, accounts, before.process)
        parts = attacks.option_parts(attack) if aggregator is None else {"aggregator": aggregator}
        process = _process(config, trained.model, len(task.train.client_ids), plan, parts)
        if config.engine.name != "federation":  # whose participants read their data themselves
            process = attacks.named_process(config, trained, process, attack)
        return cls(config, task, canaries, attack, cache, plan, accounts, process)

    @classmethod
    def of_participant(cls, config: RunConfig, task: tasks.FederatedTask, num_clients: int) -> Assembly:
        """The parts as a participant makes them.

        Args:
          config: Of the plan.
          task: Of the participant's own data.
          num_clients: Training clients of all participants.
        """
        weights = sum(w.size for w in task.model.initial_weights[0]) * config.algorithm.num_models
        plan = privacy.build_plan(config, num_clients, weights, processes.server_rates(config))
        accounts = privacy.build_client_side_ledgers(config, task.train.sizes().values())
        process = _process(config, task.model, num_clients, plan, {})
        return cls(config, task, [], None, None, plan, accounts, process)

    @property
    def rounds(self) -> int:
        """Rounds to run: those of the configuration, or fewer by a bound on epsilon."""
        return self.plan.rounds if self.plan else self.config.run.rounds

    def engine(self, found: runtime.RayCluster | None = None) -> runtime.Engine:
        """The engine, a context manager."""
        if self.config.engine.name == "federation":
            from tff_tx.run.assemble import federations

            return federations.build_engine(self.config, self.process, found, self.task)
        return processes.build_engine(
            self.config, self.process, self.task.costs(), found, processes.build_hooks(self.config, self.plan)
        )

    def cohort_fn(self, engine: runtime.Engine) -> Callable:
        """From (round, attempt, simulated seconds) to the cohort of an engine's round."""
        return cohorts.build_cohort_fn(self.config, self.task, engine.traffic(), getattr(engine, "arrivals", None))

    def evaluators(self) -> dict[str, Any]:
        """Evaluators of the held-out splits, by name: by activations where those of all of its clients are cached."""
        return {split: self._evaluator(split, clients.client_ids) for split, (_, clients) in self._held_out.items()}

    def _evaluator(self, split, client_ids):
        threads, (own_fn, clients) = self.config.engine.num_threads, self._held_out[split]
        if not self._fit(split, client_ids):
            return attacks.build_evaluator(self.task, clients, self.attack, threads, own_fn)
        own_fn, clients = own_models.in_training(self.config, self.cache.task, split)
        read = own_models.splits_read(self.config, self.task, split)

        def prepare(ids, on_progress):
            for name in read:
                self.cache.prepare(ids, name, on_progress)

        return attacks.build_evaluator(self.cache.task, clients, self.attack, threads, own_fn, prepare)

    def _fit(self, split, client_ids):
        """Whether the activations that an evaluation of clients of a split reads are cached."""
        read = own_models.splits_read(self.config, self.task, split)
        return task_parts.fits(self.cache, self.config.model.feature_cache_bytes, dict.fromkeys(read, client_ids))

    @functools.cached_property
    def _held_out(self) -> dict[str, tuple]:
        """Of the held-out splits, clients' own models and the records that are evaluated, see `own_models`."""
        names = [split for split in task_parts.splits(self.task) if split != "train"]
        return {split: own_models.in_training(self.config, self.task, split) for split in names}

    def evaluate_fn(self, evaluators: Mapping[str, Any], engine: Any) -> Callable[[Any], Mapping[str, float]] | None:
        """Evaluates on the same held-out clients each time, by their activations where these are cached.

        With `run.participant_evaluation`, it does so at the engine's participants, too.
        """
        here = self._evaluate_here(evaluators)
        if not self.config.run.participant_evaluation:
            return here
        from tff_tx.run.assemble import federations

        return lambda weights: {
            **(here(weights) if here else {}),
            **federations.participant_metrics(engine, self.task.model, weights),
        }

    def _evaluate_here(self, evaluators):
        if not evaluators:
            return None
        split = "validation" if "validation" in evaluators else "test"
        own_fn, clients = self._held_out[split]
        client_ids = clients.client_ids
        sample = tff.simulation.build_uniform_sampling_fn(client_ids, random_seed=self.config.run.seed % 2**32)
        some = sample(0, min(self.config.run.eval_clients, len(client_ids)))
        evaluator = evaluators[split]
        if not self._fit(split, client_ids) and self._fit(split, some):
            evaluator = self._evaluator(split, some)

        def figures(weights):
            overall, by_client = evaluator.evaluate(weights, some)
            if own_fn is None:
                return overall
            shared = evaluator.evaluate(self._models(weights)[0], some, own=False)[1]
            return {**overall, **comparison.figures(by_client, shared, self.task.metrics)}

        return figures

    def figures(self, round_num: int) -> dict[str, float]:
        """What a round's row has besides: epsilon."""
        return {**self.accounts.figures(round_num), **(self.plan.figures(round_num) if self.plan else {})}

    def facts(self) -> dict[str, Any]:
        """What `config.json` says besides the settings."""
        return {
            **task_parts.facts(self.task, task_parts.splits(self.task)),
            **({"privacy": self.plan.config()} if self.plan else {}),
            **({personal.PERSONAL: names} if (names := self.task.model.personal_names) else {}),
            **({own_models.TRAINED: names} if (names := self.task.model.trained_names) else {}),
            **({own_adapters.ADAPTERS: own_adapters.facts(self.task.model)} if self._has_own_adapters else {}),
            "client_privacy": self.accounts.config(),
        }

    @property
    def _has_own_adapters(self):
        """Whether clients retain adapters of their own beside those that all share."""
        return self.task.model.lora is not None and ALGORITHMS[self.config.algorithm.name].own_weights is not None

    def client_state_bytes(self) -> int:
        """Bytes of what clients retain between rounds, at most.

        Raises:
          UserError: If they are more than `run.client_state_bytes`.
        """
        config, cohort = self.config, cohorts.largest_cohort(self.config)
        trainable, others = self.task.model.initial_weights
        trainable_bytes = sum(w.nbytes for w in trainable) * config.algorithm.num_models
        personal_bytes = sum(w.nbytes for w in others[len(others) - self.task.model.num_personal :])
        own = (personal_bytes or trainable_bytes) if STORED.holds(config) else 0
        clients, most = len(self.task.train.client_ids), config.run.client_state_bytes
        needed = aggregation.client_state_bytes(config, trainable_bytes, own, clients, cohort)
        if most is not None and needed > most:
            raise UserError(
                f"{describe(config, 'run.client_state_bytes')} is less than the {needed:,} bytes that {clients:,} "
                f"clients may retain in {config.run.directory}: raise it, lower "
                f"{setting('run.rounds_per_checkpoint')}, or let clients retain fewer weights "
                f"({setting('model.personal')})."
            )
        return needed

    def bytes_needed(self) -> int:
        """Bytes on disk: two checkpoints, with as much again for optimizer and metrics, and two copies of the model."""
        config = self.config
        trainable, non_trainable = (sum(w.nbytes for w in part) for part in self.task.model.initial_weights)
        trainable *= config.algorithm.num_models
        states = self.client_state_bytes()
        retained = cohorts.stored_model_bytes(config, trainable) + aggregation.noise_state_bytes(config, trainable)
        retained += (config.algorithm.distillation_models - 1) * trainable
        total = 6 * (trainable + non_trainable) + 3 * retained + states + 20_000_000
        return total + self.update_bytes() + self.cache_bytes()

    def update_bytes(self) -> int:
        """Bytes of stored updates, at most."""
        if not self.config.run.keep_updates:
            return 0
        capabilities = ALGORITHMS[self.config.algorithm.name].capabilities
        updates = 1 if "one_update" in capabilities else 2
        cohort = cohorts.largest_cohort(self.config)
        return contribution.bytes_of_run(self.process, self.config.run.rounds, cohort, updates)

    def cache_bytes(self) -> int:
        """Bytes of the activation cache, at most: of all splits, as evaluations use it, too."""
        splits = {} if self.cache is None else task_parts.splits(self.task)
        total = sum(self.cache.mean_bytes(name) * len(clients.client_ids) for name, clients in splits.items())
        return min(self.config.model.feature_cache_bytes, int(total))

    def prepare(self, run_dir: str) -> None:
        """Records in the run directory what the run must not forget: attackers and canaries."""
        attacks.record_attackers(self.config, self.task, self.attack, run_dir)
        attacks.record_canaries(self.config, self.task, self.canaries, run_dir)

    def prepare_fn(self) -> Callable | None:
        """What makes a cohort's data ready before a round; None: nothing does."""
        if self.cache is None:
            return None
        return lambda ids, on_progress: self.cache.prepare(ids, on_progress=on_progress)

    def evaluate_all(
        self, evaluators: Mapping[str, Any], weights: Any, progress: bool
    ) -> dict[str, Mapping[str, float]]:
        """The metrics over all clients of each held-out split."""
        return {
            split: evaluator.metrics(weights, self._held_out[split][1].client_ids, show_progress=progress)
            for split, evaluator in evaluators.items()
        }

    def doubts(
        self, results: Mapping[str, Mapping[str, float]], evaluators: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Sentences on splits of which the model knows no more than how frequent the labels are.

        Of private runs none, as those frequencies are exact, nor of losses that weight examples.
        """
        task = self.config.task
        if task.balance_classes or task.class_weights or task.focal_gamma:
            return []
        if "class_probabilities" not in self.task.definition.capabilities or laws.is_private(self.config):
            return []
        found, evaluators = [], evaluators or self.evaluators()
        for split, figures in results.items():
            constant = baseline.constant(evaluators[split].label_counts(self._held_out[split][1].client_ids))
            knows = figures["loss"] < _BETTER * constant.loss or figures.get("accuracy", 0.0) > constant.accuracy
            if not knows and constant.loss > 0:
                found.append(
                    f"The model has not learned: on {split} its loss is {figures['loss']:.4g}, that of a constant "
                    f"prediction {constant.loss:.4g}. The clients' learning rate, "
                    f"{self.config.client_learning_rate:g}, may be too high or too low for the trained weights "
                    f"({self.config.model.trainable}), {self.config.run.rounds} rounds too few, or the inputs may say "
                    "nothing of the labels."
                )
        return found

    def show_clients(self, weights: Any, run_dir: str, evaluators: Mapping[str, Any]) -> None:
        """Puts sections on the held-out clients into the report; of private runs none, as no noise covers them."""
        if laws.is_private(self.config):
            return
        for split, evaluator in evaluators.items():
            ids, names = self._held_out[split][1].client_ids, self.task.label_names
            held_out.write_section(run_dir, split, evaluator, weights, ids, self.task.metrics, names)

    def save(self, weights: Any, run_dir: str, evaluators: Mapping[str, Any] | None = None) -> None:
        """Writes `model/` with what validation data decide, and `adapter/` where PEFT has a format for the adapters."""
        model, evaluator, found = self.task.model, (evaluators or {}).get("validation"), self._models(weights)
        if model.objective.choose is not None and evaluator is not None:
            sums = evaluator.sums(weights, self.task.validation.client_ids)
            model.keras_model.config.update(model.objective.choose(sums))
        if len(found) > 1:
            own_models.save_clusters(self.task, found, run_dir)
        if self.task.model.lora is not None:
            _save_adapter(self.task.model, found[0], run_dir, self.config.model.pretrained)
        if self._has_own_adapters:
            own_adapters.save(self.task.model, found[0], run_dir)
        save_model(self.task, found[0], run_dir)

    def _models(self, weights):
        return ALGORITHMS[self.config.algorithm.name].models(weights)

    def statements(self) -> dict[str, str]:
        """Sections of the report on privacy and secure sums, Markdown by title."""
        return {**self.accounts.statements(self.config.run.rounds), **secure.statements(self.config)}

    def describe(self) -> list[str]:
        """What the run is, in lines."""
        trainable, _ = self.task.model.initial_weights
        sizes = {split: len(clients.client_ids) for split, clients in task_parts.splits(self.task).items()}
        clients = ", ".join(f"{n} {split}" for split, n in sizes.items())
        config, directory = self.config, self.config.run.directory
        lines = [
            f"{self.task.kind} on {config.data.dataset}: {clients} clients; {sum(w.size for w in trainable):,} "
            f"trainable parameters; {self.rounds} rounds of {config.algorithm.name} into {directory}",
            *self.task.notes,
        ]
        lines += task_parts.describe_padding(config, self.task)
        if self.plan:
            lines.append(self.plan.describe())
        if config.aggregation.secure in ("masks", "bfv"):
            lines.append(secure.describe_sizes(config))
        if config.run.keep_updates:
            where = os.path.join(directory, "updates")
            lines.append(f"updates of clients: up to {self.update_bytes() / 1e6:,.0f} MB in {where}")
        if self.cache is not None:
            where = os.path.join(directory, "features")
            lines.append(f"activation cache: up to {self.cache_bytes() / 1e6:,.0f} MB in {where}")
        return lines


def _process(config, model, num_clients, plan, parts):
    """The learning process of data sets; `parts` are fields of `algorithms.Options` in place of the configuration's."""
    parts = {"num_clients": num_clients, **aggregation.build_aggregation(config), **parts}
    if plan is not None:
        parts.update(aggregation.private_parts(plan))
    return processes.build_process(config, model, processes.build_options(config, model, **parts))


def save_model(task: tasks.FederatedTask, weights: Any, run_dir: str) -> None:
    """Writes `model/`."""
    task.model.assign(weights)
    files.write_directory(
        run_dir, MODEL, lambda d: models.save_pretrained(task.model.keras_model, d, task.tokenizer, task.processor)
    )


def _save_adapter(model, weights, run_dir, pretrained):
    try:
        models.check_adapter_format(model)
    except UserError as error:
        print(f"The adapters are in the model only: {error}")
        return
    files.write_directory(run_dir, "adapter", lambda d: models.save_adapter(model, weights, d, pretrained))
