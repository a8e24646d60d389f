"""What a run writes as it goes on: metrics, TensorBoard, checkpoints, the privacy ledger."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Callable

import tensorflow_federated as tff

from tff_tx.run.callbacks.callback import Callback, RoundResult, RunState
from tff_tx.run.callbacks.metrics_file import MetricsFile
from tff_tx.run.checkpoints import Checkpoints, run_coroutine
from tff_tx.run.directory import METRICS, TENSORBOARD


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
