"""Callbacks: what happens beside the rounds of a run."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.cohorts import Cohort
from tff_tx.core.errors import UserError, setting
from tff_tx.core.files import write_directory
from tff_tx.run.checkpoints import Checkpoints, run_coroutine
from tff_tx.run.directory import METRICS, TENSORBOARD
from tff_tx.run.metrics_file import MetricsFile
from tff_tx.runtime import Engine, RoundOutput

_BEST = "best"
_WEIGHTS = "weights.npz"


@dataclasses.dataclass
class RunState:
    """A run while it is under way.

    Attributes:
      engine: What runs the rounds.
      directory: The run directory.
      schedule: The `loop.Schedule`.
      first: Rounds that had been run before, from whose state this one goes on.
      stopped: Why the run ends early; None: it does not. Callbacks set it.
      weights: In `on_end`, the `ModelWeights` that the run ends with; a callback may put others there.
    """

    engine: Engine
    directory: str
    schedule: Any
    first: int = 0
    stopped: str | None = None
    weights: Any = None


@dataclasses.dataclass
class RoundResult:
    """A round that counts.

    Attributes:
      run: The run.
      round_num: The round, counted from 1.
      row: Its figures by column of `metrics.csv`; callbacks may add some.
      state: The state of the engine after the round.
      cohort: Its clients.
      output: What the engine gave.
      finished: Ids of the clients whose work it used, in order.
      evaluation: Metrics by name, if the model was evaluated after it.
    """

    run: RunState
    round_num: int
    row: collections.OrderedDict
    state: Any
    cohort: Cohort
    output: RoundOutput
    finished: list[str]
    evaluation: dict[str, float] | None = None

    def weights(self) -> Any:
        """The model after the round, `ModelWeights` of NumPy arrays."""
        return self.run.engine.model_weights(self.state)


class Callback:
    """Does nothing; override what is needed. Callbacks are called in their order."""

    def on_start(self, run: RunState) -> None:
        """Before the first round that is run; a run that goes on begins here again."""

    def on_evaluation(self, result: RoundResult) -> None:
        """After an evaluation, before `on_round_end`."""

    def on_round_end(self, result: RoundResult) -> None:
        """After a round; what is not written by the end of it may be run again."""

    def on_end(self, run: RunState) -> None:
        """After the last round, of a run that was not interrupted."""


class MetricsCsv(Callback):
    """`metrics.csv`: a row a round."""

    def on_start(self, run: RunState) -> None:
        self._file = MetricsFile(os.path.join(run.directory, METRICS), run.first)
        # The last round of a shorter run was evaluated because it was the last.
        self._file.clear("eval/", lambda n: n == run.first and not run.schedule.evaluates(n))

    def on_round_end(self, result: RoundResult) -> None:
        self._file.append(result.row, result.round_num)


class TensorBoard(Callback):
    """`tensorboard/`: the figures of `metrics.csv`."""

    def on_start(self, run: RunState) -> None:
        self._manager = tff.program.TensorBoardReleaseManager(os.path.join(run.directory, TENSORBOARD))

    def on_round_end(self, result: RoundResult) -> None:
        run_coroutine(self._manager.release(result.row, result.round_num))


class SavesCheckpoints(Callback):
    """Saves the state after every `rounds_per_checkpoint` rounds, and after the last.

    Args:
      checkpoints: Where to.
    """

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints = checkpoints

    def on_round_end(self, result: RoundResult) -> None:
        if result.run.stopped or result.run.schedule.saves(result.round_num):
            self._checkpoints.save(result.state, result.round_num)


class Ledger(Callback):
    """Columns that depend on the round alone, such as epsilon.

    Args:
      figures_fn: From a round to figures by column.
    """

    def __init__(self, figures_fn: Callable[[int], Mapping[str, float]]):
        self._figures_fn = figures_fn

    def on_round_end(self, result: RoundResult) -> None:
        result.row.update(self._figures_fn(result.round_num))


class Monitor(Callback):
    """Follows a metric of evaluations; in a resumed run from where it was.

    Args:
      metric: Name of the metric, as in eval/NAME.
      higher_is_better: Its direction.
    """

    def __init__(self, metric: str, higher_is_better: bool):
        self._metric, self._sign = metric, 1.0 if higher_is_better else -1.0
        self._best, self._since = -math.inf, 0

    def on_start(self, run: RunState) -> None:
        self._best, self._since = -math.inf, 0
        path, column = os.path.join(run.directory, METRICS), f"eval/{self._metric}"
        rows = pd.read_csv(path, dtype=str, keep_default_na=False) if os.path.exists(path) else pd.DataFrame()
        for _, row in rows.iterrows() if column in rows else ():
            round_num = int(row["round_num"])
            # The last round of a shorter run was evaluated because it was the last.
            counts = round_num < run.first or (round_num == run.first and run.schedule.evaluates(round_num))
            if row[column] and counts:
                self._follow(float(row[column]))

    def on_evaluation(self, result: RoundResult) -> None:
        if self._metric not in result.evaluation:
            raise UserError(
                f"{setting('run.monitor')}={self._metric}: must be one of {', '.join(result.evaluation)}, the metrics "
                "of this task."
            )
        self._follow(result.evaluation[self._metric])

    def _follow(self, value) -> bool:
        improved = self._sign * value > self._best
        self._best = max(self._best, self._sign * value)
        self._since = 0 if improved else self._since + 1
        return improved


class EarlyStopping(Monitor):
    """Ends a run after `patience` evaluations in a row without improvement.

    Prechelt 1998, "Early Stopping - But When?", criterion UP.

    Args:
      metric: As of `Monitor`.
      higher_is_better: As of `Monitor`.
      patience: Evaluations.
    """

    def __init__(self, metric: str, higher_is_better: bool, patience: int):
        super().__init__(metric, higher_is_better)
        self._patience = patience

    def on_start(self, run: RunState) -> None:
        super().on_start(run)
        self._stop(run, run.first)

    def on_evaluation(self, result: RoundResult) -> None:
        super().on_evaluation(result)
        self._stop(result.run, result.round_num)

    def _stop(self, run, round_num):
        if self._since >= self._patience:
            run.stopped = f"eval/{self._metric} has not improved for {self._since} evaluations, at round {round_num}"


class KeepBest(Monitor):
    """Ends a run with the model of its best evaluation, in `best/` until then."""

    def on_evaluation(self, result: RoundResult) -> None:
        best = self._best
        super().on_evaluation(result)
        if self._best > best:
            write_directory(result.run.directory, _BEST, lambda directory: self._save(directory, result))

    def _save(self, directory, result):
        np.savez(os.path.join(directory, _WEIGHTS), *tf.nest.flatten(result.weights()))

    def on_end(self, run: RunState) -> None:
        path = os.path.join(run.directory, _BEST, _WEIGHTS)
        if os.path.exists(path):
            with np.load(path) as leaves:
                stored = [leaves[name] for name in leaves.files]
            known = tf.nest.flatten(run.weights)
            # NumPy's files do not know bfloat16.
            stored = [leaf if leaf.dtype == like.dtype else leaf.view(like.dtype) for leaf, like in zip(stored, known)]
            run.weights = tf.nest.pack_sequence_as(run.weights, stored)
