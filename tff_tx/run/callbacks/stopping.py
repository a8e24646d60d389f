"""Early stopping, and the best model of a run."""

from __future__ import annotations

import math
import os

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError, setting
from tff_tx.core.files import write_directory
from tff_tx.run.callbacks.callback import Callback, RoundResult, RunState
from tff_tx.run.directory import METRICS

_BEST = "best"
_WEIGHTS = "weights.npz"


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
