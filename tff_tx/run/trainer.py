"""`Trainer`: a run from its parts to its results."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tff_tx import privacy, tasks
from tff_tx.config import FIELDS, RunConfig, check, resolve, show
from tff_tx.config.registries import TRACKERS
from tff_tx.config.space import Space
from tff_tx.config.tools import TuneConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import assemble, checkpoints, directory, html_report, hub, loop, model_card, reporting, scoring
from tff_tx.run.assemble.tasks import stored_config
from tff_tx.run.assemble.trained import run_predictor
from tff_tx.run.callbacks import Callback, EarlyStopping, HasConfig, KeepBest, Ledger, MetricsCsv, TensorBoard, Withhold
from tff_tx.run.parts import Part, settings


@dataclasses.dataclass(frozen=True)
class Task:
    """A loaded task, data and model known to fit, with the settings that it was loaded with."""

    config: RunConfig
    task: tasks.FederatedTask


def load_task(kind: str | None = None, data: Part | None = None, model: Part | None = None, **more: Any) -> Task:
    """Loads data and model.

    Args:
      kind: The task, such as "sequence_classification"; None: the usual one of an embedded data set.
      data: Of `Data`; None: the embedded default.
      model: Of `Model`; None: the usual one of an embedded data set.
      **more: Further settings, named as flags are, such as `max_length` or `seed`.

    Raises:
      UserError: If something cannot be loaded, or data and model do not fit.
    """
    return load(RunConfig.of(settings(task=kind, data=data, model=model, **more)))


def load(config: RunConfig, progress: bool = True) -> Task:
    """Loads data and model of a whole configuration; as `load_task`."""
    resolved = resolve(config)
    if config.ensemble.enabled:
        first = next(iter(assemble.group_configs(resolved).values()))
        return Task(config, assemble.load_task(first, progress=progress))
    if not config.data.silos:
        return Task(config, assemble.load_task(resolved, progress=progress))
    with assemble.cluster(resolved) as cluster:
        return Task(config, assemble.load_task(resolved, assemble.on_silos(resolved, cluster), progress))


class Trainer:
    """Trains a task federatedly, and keeps all that a run leaves in its run directory.

    Args:
      task: Of `load_task`.
      callbacks: Called beside the rounds, in this order.
      aggregation: A part such as `stack(clip(1.0), mean())`, or any `tff.aggregators` factory.
      progress: Whether to show progress.
      **parts: Parts such as `algorithm=FedAvg(...)`, `privacy=DPFedAvg(...)`, `attack=Attack(...)`, and settings named
        as flags are, such as `clients_per_round=10` or `run_dir="runs/news"`.

    Raises:
      UserError: If settings do not fit together.
    """

    def __init__(
        self,
        task: Task,
        *,
        callbacks: Sequence[Callback] = (),
        aggregation: Any = None,
        progress: bool = True,
        **parts: Any,
    ):
        own = aggregation if isinstance(aggregation, Part) else Part()
        self._aggregator = None if isinstance(aggregation, Part) else aggregation
        chosen = {name: value for name, value in parts.items() if isinstance(value, Part)}
        others = {name: value for name, value in parts.items() if name not in chosen}
        self._task, self._callbacks, self._progress = task, tuple(callbacks), progress
        config = task.config.replace(own | settings(**chosen) | settings(**others))
        _check_loaded(task.config, config)
        self.config = resolve(config).with_absolute_paths()
        check(self.config)
        if self._aggregator is not None:
            _check_factory(self.config)
        self._results: dict[str, Mapping[str, float]] = {}

    @classmethod
    def from_config(cls, config: RunConfig, **more: Any) -> Trainer:
        """The trainer of a whole configuration, loaded; `more` are `callbacks` and `progress`, as of the class.

        Raises:
          UserError: If settings do not fit together, or something cannot be loaded.
        """
        check(resolve(config))
        return cls(load(config, more.get("progress", True)), **more)

    @classmethod
    def run(cls, config: RunConfig) -> pd.DataFrame:
        """Loads and fits a whole configuration; the run directory is taken before anything is loaded.

        Raises:
          As `from_config` and `fit`.
        """
        check(resolve(config))
        with directory.writing(resolve(config).with_absolute_paths().run.directory):
            return cls.from_config(config)._fit()

    @functools.cached_property
    def _assembly(self) -> Any:
        return assemble.assemble(self.config, self._task.task, self._aggregator)

    @property
    def task(self) -> Task:
        """What it trains."""
        return self._task

    @property
    def process(self) -> Any:
        """The `tff.learning.templates.LearningProcess`, of clients named by `tasks.client_arguments`."""
        return self._assembly.process

    @property
    def privacy(self) -> Any:
        """What the run guarantees, before or after training; None: nothing."""
        accounts = self._assembly.accounts
        return self._assembly.plan or (accounts if accounts.config() else None)

    @property
    def history(self) -> pd.DataFrame:
        """A row a round, as in `metrics.csv`."""
        return directory.read_metrics(self.config.run.directory)

    def as_flags(self) -> list[str]:
        """The command line of the same run: arguments of `python -m programs.train`."""
        return flags_of(self.config)

    def fit(self, rounds: int | None = None) -> pd.DataFrame:
        """Trains, evaluates and writes the run directory; goes on where a run there has stopped.

        Args:
          rounds: Rounds in all; None: as configured. A run may go on with more rounds than it was begun with, unless a
            schedule or a privacy budget depends on their number.

        Returns:
          `history`.

        Raises:
          UserError: If the run directory cannot be written, or holds another run.
          Interrupted: On Ctrl-C, or when too few clients finished too often; `fit` again goes on.
        """
        if rounds is not None and rounds != self.config.run.rounds:
            config = self.config.replace({"run.rounds": rounds})
            check(config)
            self.config = config
            if before := self.__dict__.pop("_assembly", None):
                self._assembly = assemble.assemble(config, self._task.task, self._aggregator, before)
        with directory.writing(self.config.run.directory):
            return self._fit()

    def advance(self, rounds: int) -> Any:
        """Trains up to a round and stops there, with its state saved: a further call, or `fit`, goes on.

        Args:
          rounds: Rounds in all, at most those of the configuration, on which schedules and noise depend.

        Returns:
          The weights after them, `ModelWeights` of NumPy arrays.

        Raises:
          As `fit`.
        """
        with directory.writing(self.config.run.directory), assemble.cluster(self.config) as cluster:
            return self._train(cluster, {}, [], rounds)

    def evaluators(self) -> dict[str, Any]:
        """`run.evaluation.Evaluator` of each held-out split, by name."""
        return self._assembly.evaluators()

    def tune(self, space: Mapping[str, Any] | None = None, budget: str | float | None = None, **more: Any) -> Any:
        """Searches for better settings: Hyperband over rounds, of configurations that Optuna proposes.

        Args:
          space: By name of a flag, a list of values, {"low", "high", "log"}, or True; None: a default for the task.
          budget: Such as "400 rounds" or "2 h", see `config.budget.Budget`; None: 4 times the rounds of the run.
          **more: Other settings of the section `tune`, such as `study_dir`.

        Returns:
          The `run.tuning.report.Result`, whose `trainer` has the trained best model.

        Raises:
          UserError: If the space or the budget is wrong, or the directory holds another study.
        """
        from tff_tx.run.tuning import study

        own = TuneConfig(budget=None if budget is None else str(budget), **more)
        found = Space.default(self.config) if space is None else Space.of(space)
        return study.tune(self._task, self.config, found, own, self._aggregator, self._progress)

    def _fit(self):
        started = time.monotonic()
        run_dir, parts = self.config.run.directory, self._assembly
        if self.config.run.push_to_hub:
            hub.check(self.config.run.push_to_hub)
        evaluators = parts.evaluators()
        monitors = self._monitors(evaluators)
        with assemble.cluster(self.config) as cluster:
            weights = self._train(cluster, evaluators, monitors)
        self._results = parts.evaluate_all(evaluators, weights, self._progress)
        with files.disk_errors(run_dir):
            parts.save(weights, run_dir, evaluators)
            checkpoints.note_model(os.path.join(run_dir, directory.CHECKPOINTS))
            self._report()
            parts.show_clients(weights, run_dir, evaluators)
            if doubts := parts.doubts(self._results, evaluators):
                reporting.write_section(run_dir, "Doubts", "\n\n".join(doubts))
        for split, figures in self._results.items():
            self._say(f"{split}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        self._say(*doubts)
        if self.config.run.push_to_hub:
            self._say(f"Uploaded to {hub.push(self._model_directory(), self.config.run.push_to_hub)}")
        self._say(f"Done in {time.monotonic() - started:.0f} s. Report, metrics and model: {run_dir}")
        return self.history

    def _train(self, cluster, evaluators, monitors, rounds=None):
        """The weights after the rounds; None: all."""
        run_dir, parts = self.config.run.directory, self._assembly
        directory.check_rounds(run_dir, parts.rounds)
        files.check_space(run_dir, parts.bytes_needed())
        with files.disk_errors(run_dir):
            directory.write_config(run_dir, self.config, parts.facts())
            parts.prepare(run_dir)
        self._say(*parts.describe())
        before = [HasConfig(), Ledger(parts.figures), *self._callbacks, *monitors]
        trackers = [TRACKERS[name]() for name in self.config.run.trackers]
        schedule = self._schedule()
        if rounds is not None:
            schedule = dataclasses.replace(schedule, rounds=min(rounds, schedule.rounds))
        withhold = Withhold(functools.partial(privacy.is_withheld, config=self.config))
        with parts.engine(cluster) as engine:
            return loop.train(
                engine,
                run_dir,
                schedule,
                cohort_fn=parts.cohort_fn(engine),
                evaluate_fn=parts.evaluate_fn(evaluators, engine),
                callbacks=[*before, withhold, MetricsCsv(), TensorBoard(), *trackers],
                show_progress=self._progress,
                profiled=self.config.run.profile,
                prepare_fn=parts.prepare_fn(),
            )

    def _say(self, *lines):
        if self._progress:
            print("\n".join(lines))
            sys.stdout.flush()

    def _monitors(self, evaluators):
        run = self.config.run
        if run.patience is None and not run.keep_best:
            return []
        known = self._task.task.metrics_that_rank()
        name = run.monitor.rpartition("/")[2]  # of several models: NAME/METRIC
        if name not in known:
            raise UserError(f"{setting('run.monitor')}={run.monitor}: must be one of {', '.join(known)}.")
        if not evaluators:
            sizes = f"{setting('data.validation_fraction')} or {setting('data.test_fraction')}"
            raise UserError(f"{setting('run.monitor')} needs held-out data: raise {sizes}, or name held-out files.")
        higher = known[name].higher_is_better
        stopping = [EarlyStopping(run.monitor, higher, run.patience)] if run.patience is not None else []
        return [*stopping, *([KeepBest(run.monitor, higher)] if run.keep_best else [])]

    def _schedule(self):
        config, private = self.config, self._assembly.plan is not None
        once = private or config.cohort.sampling == "fixed" or config.cohort.is_buffered
        return loop.Schedule(
            self._assembly.rounds,
            config.run.rounds_per_evaluation,
            config.run.rounds_per_checkpoint,
            min_clients=0 if private else config.cohort.min_clients,
            max_retries=0 if once else config.cohort.max_round_retries,
            releases_once=private,
        )

    def _report(self):
        run_dir, plan = self.config.run.directory, self._assembly.plan
        files.write_json(os.path.join(run_dir, directory.RESULTS), self._results)
        metrics = self._task.task.metrics
        run = directory.read_run(run_dir)
        reporting.write_report(run, self._results, metrics, plan.statement() if plan else None)
        statements = self._assembly.statements()
        for title, text in statements.items():
            reporting.write_section(run_dir, title, text)
        sections = [f"## {title}\n\n{text}" for title, text in statements.items()]
        model_card.write_card(run, self._results, metrics, [*([plan.statement()] if plan else []), *sections])

    def _model_directory(self) -> str:
        path, groups = (os.path.join(self.config.run.directory, name) for name in (directory.MODEL, "groups"))
        if os.path.isdir(groups):
            names = ", ".join(sorted(os.listdir(groups)))
            raise UserError(f"the run has several models: use the run directories {names} in {groups}.")
        if not os.path.isdir(path):
            raise UserError(f"{self.config.run.directory} has no trained model: call fit() first.")
        return path

    def evaluate(self, split: str = "test", **options: Any) -> scoring.Evaluation:
        """Evaluates the trained model on each client of a split.

        Args:
          split: "train", "validation" or "test".
          **options: Of `scoring.evaluate`: `personalize_epochs` for which each client fine-tunes the model before,
            `choose_steps` of these by other records of its own, `neighbors` of kNN-Per, `similar_examples` of FedDPA,
            or `alone_epochs` for which each client trains alone, for comparison.

        Raises:
          UserError: If there is no such split, or no trained model yet.
        """
        self._model_directory()
        run = directory.read_run(self.config.run.directory)
        return scoring.evaluate(stored_config(run), split, run=run, progress=self._progress, **options)

    def predict(self, inputs: Any, client: str | None = None, **options: Any) -> list[dict[str, Any]]:
        """Predicts with the trained model.

        Args:
          inputs: Texts, image files, or records, as the task takes them.
          client: A client whose personal weights are used; None: those that clients begin with, if there are any.
          **options: Fields of `inference.Options`, such as `top_k`, and `similar_examples` of FedDPA.

        Raises:
          UserError: If there is no trained model yet, or the inputs are not the task's.
        """
        self._model_directory()
        return list(run_predictor(directory.read_run(self.config.run.directory), client, **options).predict(inputs))

    def report(self) -> html_report.Report:
        """The run's `report.html`, which a notebook shows.

        Raises:
          UserError: If there is no trained model yet.
        """
        self._model_directory()
        return html_report.Report(os.path.join(self.config.run.directory, reporting.HTML))

    def save(self, path: str) -> str:
        """Writes the trained model in Hugging Face format, with its tokenizer; returns the directory."""
        if os.path.isdir(path) and os.listdir(path) and not os.path.exists(os.path.join(path, "config.json")):
            raise UserError(f"{path} is a directory with other files: name another one for the model.")
        parent, name = os.path.split(os.path.abspath(path))
        files.make_directory(parent, "path")
        source = self._model_directory()
        return files.write_directory(parent, name, lambda d: shutil.copytree(source, d, dirs_exist_ok=True))


def flags_of(config: RunConfig) -> list[str]:
    """The command line of a run: arguments of `python -m programs.train`."""
    flags = []
    for path, value in config.changed().items():
        field = FIELDS[path]
        if isinstance(value, bool):
            flags.append(f"--{'' if value else 'no'}{field.flag}")
        else:
            flags += [f"--{field.flag}={show(v)}" for v in (value if field.option.repeated else [value])]
    return flags


def _check_loaded(before: RunConfig, now: RunConfig) -> None:
    """Checks that settings of data and model are those that the task was loaded with."""
    loaded = ("data", "task", "model", "lora")
    for path, field in FIELDS.items():
        if (field.section in loaded or path == "run.seed") and before.get(path) != now.get(path):
            raise UserError(
                f"{setting(path)}={show(now.get(path))}: the task was loaded with {show(before.get(path))}; set it in "
                "load_task."
            )


def _check_factory(config: RunConfig) -> None:
    """Checks that no setting asks for another aggregation than the factory that is given."""
    for path in ("privacy.mechanism", "ensemble.enabled", "compression.upload", "lora.aggregation"):
        if config.is_set(path):
            raise UserError(f"{setting(path)}={show(config.get(path))} has an aggregation of its own: give no factory.")
