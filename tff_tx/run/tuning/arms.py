"""Arms of a study as runs: trained from rung to rung, scored on validation clients, and what both cost."""

from __future__ import annotations

import functools
import glob
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tff_tx.cohorts import log as cohort_log
from tff_tx.config import FIELDS, RunConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.models.objectives.metric import Metric
from tff_tx.run import directory as run_directory
from tff_tx.run.assemble.cohorts import build_devices
from tff_tx.run.assemble.tasks import FEATURES
from tff_tx.run.loop import NotFiniteError
from tff_tx.run.trainer import Task, Trainer, load
from tff_tx.run.tuning import side_by_side
from tff_tx.run.tuning.records import ARMS, Records
from tff_tx.run.tuning.scores import Scores
from tff_tx.tasks import FederatedTask, take_features

_LOADED = ("data", "task", "model", "lora")
_MOST_TRAINERS = 3
_FORWARD = 1 / 3
"""Work of a forward pass, in units of a training step's."""


def cost_of_rounds(run_dir: str, before: int, rounds: int, seconds_fn: Callable[[str, int], float]) -> dict[str, float]:
    """What the rounds after `before` have cost, by `COSTS`; of an arm that diverged, what those that it made have.

    Args:
      run_dir: The arm's run directory.
      before: Rounds that are accounted for already.
      rounds: The last one.
      seconds_fn: From a client and its bytes to the simulated seconds of its round.
    """
    cost = {"rounds": float(rounds - before), "client_seconds": 0.0, "bytes": 0.0}  # of rounds, those it was meant to
    table = pd.read_csv(os.path.join(run_dir, run_directory.METRICS)).set_index("round_num")
    table = table[(table.index > before) & (table.index <= rounds)]
    cost["seconds"] = float(table["time/round_seconds"].sum()) if len(table) else 0.0
    path = os.path.join(run_dir, cohort_log.LOG)
    for _, record in cohort_log.records(path, path):
        if record["round_num"] in table.index:
            row = table.loc[record["round_num"]]
            down, up = (row[f"comm/{way}load_bytes_per_client"] for way in ("down", "up"))
            up = 0.0 if math.isnan(up) else up  # nobody sent anything
            cost["bytes"] += down * len(record["clients"]) + up * len(record["reported"])
            cost["client_seconds"] += sum(seconds_fn(c, int(down + up)) for c in record["reported"])
    return cost


def scored_by(task: FederatedTask, metric: str) -> tuple[list[str], Metric]:
    """The clients and the metric that score arms.

    Raises:
      UserError: If there are no validation clients, or no such metric.
    """
    if task.validation is None or not task.validation.client_ids:
        raise UserError(
            "tuning needs a validation split, as the test split is for the model that it ends with: set "
            f"{setting('data.validation_fraction')}=0.1, or name {setting('data.validation_files')}."
        )
    known = task.metrics_that_rank()
    if metric not in known:
        raise UserError(f"{setting('tune.metric')}={metric}: must be one of {', '.join(known)}.")
    return task.validation.client_ids, known[metric]


class Arms:
    """The arms of a study.

    Args:
      task: A task of which all arms are settings.
      config: The configuration that is tuned.
      directory: Of the study.
      records: What the study has found out so far.
      metric: Name of the metric that arms are compared by.
      aggregator: A `tff.aggregators` factory in place of the configuration's aggregation, or None.
      pool: Where arms are trained side by side; None: one after another, here.
    """

    def __init__(
        self,
        task: Task,
        config: RunConfig,
        directory: str,
        records: Records,
        metric: str,
        aggregator: Any = None,
        pool: side_by_side.Pool | None = None,
    ):
        self._pool, self._seconds_before = pool, 0.0
        self._task, self._config, self._directory, self._records = task, config, directory, records
        self._aggregator = aggregator
        self._weights: dict[tuple[int, int], Any] = {}
        self._trainers: dict[int, Trainer] = {}
        self._shared_evaluator: Any = None
        client_ids, self.metric = scored_by(task.task, metric)
        order = np.random.default_rng(config.run.seed).permutation(len(client_ids))
        self.clients = [client_ids[i] for i in order]
        self._sign = -1.0 if self.metric.higher_is_better else 1.0

    def shown(self, score: float) -> float:
        """The metric, for a score, of which lower is better."""
        return self._sign * score

    def path(self, arm: int) -> str:
        """The run directory of an arm."""
        return os.path.join(self._directory, ARMS, f"{arm:04}")

    def trainer(self, arm: int, values: Mapping[str, Any]) -> Trainer:
        """The trainer of an arm, with values of the space; those of the last few arms have their graphs still."""
        if arm not in self._trainers:
            while len(self._trainers) >= _MOST_TRAINERS:
                del self._trainers[next(iter(self._trainers))]
            config = self._config_of(arm, values)
            self._trainers[arm] = Trainer(self._loaded(config), aggregation=self._aggregator, progress=False)
        return self._trainers[arm]

    def _config_of(self, arm, values):
        return self._config.replace({**values, "run.directory": self.path(arm)})

    def _loaded(self, config):
        paths = [p for p, field in FIELDS.items() if field.section in _LOADED]
        if all(config.get(p) == self._config.get(p) for p in paths):
            return Task(config, self._task.task)
        return load(config, progress=False)

    def begin_rung(self, values: Mapping[int, Mapping[str, Any]], rounds: int) -> None:
        """Trains arms, by number, side by side up to a round, where there is a cluster; `train` goes on from there."""
        left = [arm for arm in values if not self._records.trained(arm, rounds)]
        if self._pool is None or len(left) < 2:
            return
        started = time.monotonic()
        for arm in left:
            self._take_features(arm)
        self._pool([self._config_of(arm, values[arm]) for arm in left], rounds)
        self._seconds_before = (time.monotonic() - started) / len(left)

    def train(self, arm: int, values: Mapping[str, Any], rounds: int) -> None:
        """Trains an arm up to a round, from where it is."""
        if self._records.trained(arm, rounds):
            return
        started = time.monotonic()
        self._weights[arm, rounds] = self._advance(arm, values, rounds)
        before = max((r for r in range(rounds) if self._records.trained(arm, r)), default=0)
        cost = cost_of_rounds(self.path(arm), before, rounds, functools.partial(self._seconds, values))
        seconds = self._seconds_before + time.monotonic() - started
        self._records.train(arm, rounds, {**cost, "seconds": seconds}, max(0.0, seconds - cost["seconds"]))

    def _advance(self, arm, values, rounds):
        """The weights after so many rounds; None of an arm that has diverged."""
        self._take_features(arm)
        try:
            return self.trainer(arm, values).advance(rounds)
        except NotFiniteError:
            return None

    def _take_features(self, arm):
        """Gives an arm the activations that others have; of another model, the arm's cache drops them."""
        if self._config.model.cache_features:
            of_arms = glob.glob(os.path.join(glob.escape(self._directory), ARMS, "*", FEATURES))
            own = os.path.join(self.path(arm), FEATURES)
            take_features(own, sorted({*of_arms} - {own}))

    def _seconds(self, values, client, num_bytes):
        """Simulated seconds of a training client in a round."""
        local = self._config.replace(values).client
        return build_devices(self._config).duration(client, local.num_examples(self._sizes[client]), num_bytes)

    @functools.cached_property
    def _sizes(self):
        return self._task.task.train.sizes()

    def score(self, arm: int, values: Mapping[str, Any], rounds: int, clients: int) -> Scores:
        """The scores of an arm after a rung's rounds, on at least so many validation clients."""
        known = self._records.scores(arm, rounds)
        done = 0 if known is None else len(known.values)
        if done >= clients:
            return Scores(known.values[:clients], known.weights[:clients])
        started, ids = time.monotonic(), self.clients[done:clients]
        if (arm, rounds) not in self._weights:
            self._weights[arm, rounds] = self._advance(arm, values, rounds)
        scores, weights, cost = np.full(len(ids), np.inf), np.ones(len(ids)), {}
        if (trained := self._weights[arm, rounds]) is not None:
            cost = self.cost_of_scores(done, clients)
            _, by_client = self._evaluator(arm, values).evaluate(trained, ids)
            scores = self._sign * by_client[self.metric.name].to_numpy(np.float64)
            weights = by_client["num_examples"].to_numpy(np.float64)
            scores[~np.isfinite(scores)] = np.inf
        if known is not None:
            scores, weights = np.append(known.values, scores), np.append(known.weights, weights)
        found = Scores(scores, weights)
        self._records.score(arm, rounds, found, {**cost, "seconds": time.monotonic() - started})
        return found

    def cost_of_scores(self, first: int, end: int) -> dict[str, float]:
        """What an arm's scores on clients cost, by `COSTS` but for `rounds` and `seconds`.

        Clients from `first` to `end` of `clients` receive the model, and go over their data without gradients.
        """
        ids = self.clients[first:end]
        model = sum(w.nbytes for part in self._task.task.model.initial_weights for w in part)
        sizes, devices = self._task.task.validation.sizes(), build_devices(self._config)
        seconds = sum(devices.duration(c, _FORWARD * sizes[c], model) for c in ids)
        return {"client_seconds": seconds, "bytes": float(model * len(ids))}

    def _evaluator(self, arm, values):
        """Of arms with the same model and no weights of clients' own, one for all."""
        trainer = self.trainer(arm, values)
        if trainer.config.model.personal is not None or trainer.task.task is not self._task.task:
            return trainer.evaluators()["validation"]
        if self._shared_evaluator is None:
            self._shared_evaluator = trainer.evaluators()["validation"]
        return self._shared_evaluator

    def end_rung(self) -> None:
        """Forgets the weights of a rung, which checkpoints have."""
        self._weights.clear()
        self._seconds_before = 0.0

    def drop(self, arm: int) -> None:
        """Removes the checkpoints of an arm that is not trained any more."""
        self._trainers.pop(arm, None)
        files.remove(os.path.join(self.path(arm), run_directory.CHECKPOINTS))
