"""Callbacks: what happens beside the rounds of a run."""

from __future__ import annotations

import collections
import csv
import dataclasses
import glob
import io
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.cohorts import Cohort
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run.checkpoints import Checkpoints, run_coroutine
from tff_tx.run.directory import CONFIG, METRICS, TENSORBOARD
from tff_tx.runtime import Engine, RoundOutput

_KEY = "round_num"
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


class MetricsFile:
    """A CSV file with a row a round, appended; survives being killed at any time.

    Each write costs as much as its row; `tff.program.CSVFileReleaseManager` reads and writes the whole file at each
    release, in either of its modes, so that the thousandth round takes longer than the first.
    """

    def __init__(self, path: str, last: int):
        """Opens the file, which need not exist; rounds after the last, and a line that a kill tore off, are removed."""
        self._path = path
        self._columns, rows, torn = _read(path)
        kept = rows[:last]
        if not self._columns or torn or len(kept) < len(rows):
            self._columns = self._columns or [_KEY]
            self._rewrite(kept)

    def append(self, row: Mapping[str, float], round_num: int) -> None:
        """Adds a round's numbers by column; columns that are new become the file's last, empty in earlier rounds."""
        row = {_KEY: round_num, **{column: np.asarray(number).item() for column, number in row.items()}}
        new = [column for column in row if column not in self._columns]
        if new:
            self._columns += new
            self._rewrite([*_read(self._path)[1], row])
            return
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def clear(self, prefix: str, is_void: Callable[[int], bool]) -> None:
        """Empties the columns whose names begin with a prefix, in rounds for which `is_void` holds."""
        _, rows, _ = _read(self._path)
        columns = [name for name in self._columns if name.startswith(prefix)]
        void = [row for row in rows if is_void(int(row[_KEY])) and any(row[name] for name in columns)]
        for row in void:
            row.update(dict.fromkeys(columns, ""))
        if void:
            self._rewrite(rows)

    def _rewrite(self, rows):
        with files.atomic(self._path) as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def _read(path):
    """Columns, rows, and whether an unfinished line follows, which is not among them."""
    if not os.path.exists(path):
        return [], [], False
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        whole, newline, rest = file.read().rpartition("\n")
    reader = csv.DictReader(io.StringIO(whole + newline, newline=""))
    return list(reader.fieldnames or []), list(reader), rest != ""


def metrics_checksum(path: str, last: int) -> int:
    """CRC-32 of the figures of the first `last` rounds in a metrics file.

    Columns that later rounds add do not count, nor does the last round's evaluation, which `MetricsFile.clear` removes.
    """
    rows = [{name: value for name, value in row.items() if value} for row in _read(path)[1][:last]]
    if len(rows) == last > 0:
        rows[-1] = {name: value for name, value in rows[-1].items() if not str(name).startswith("eval/")}
    return zlib.crc32(repr(rows).encode())


class Withhold(Callback):
    """Removes columns for which a function holds, so that no later callback writes them."""

    def __init__(self, is_withheld: Callable[[str], bool]):
        self._is_withheld = is_withheld

    def on_round_end(self, result: RoundResult) -> None:
        for column in list(filter(self._is_withheld, result.row)):
            del result.row[column]


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
        directory = os.path.join(run.directory, TENSORBOARD)
        for path in glob.glob(os.path.join(glob.escape(directory), "events.out.tfevents*")):
            os.remove(path)  # it may have rounds that are run again
        self._manager = tff.program.TensorBoardReleaseManager(directory)
        for row in _read(os.path.join(run.directory, METRICS))[1]:
            round_num = int(row.pop(_KEY))
            if round_num <= run.first:
                figures = {column: float(figure) for column, figure in row.items() if figure}
                run_coroutine(self._manager.release(figures, round_num))

    def on_round_end(self, result: RoundResult) -> None:
        run_coroutine(self._manager.release(result.row, result.round_num))


class SavesCheckpoints(Callback):
    """Saves the state after every `rounds_per_checkpoint` rounds, and after the last."""

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints = checkpoints

    def on_round_end(self, result: RoundResult) -> None:
        if result.run.stopped or result.run.schedule.saves(result.round_num):
            if os.path.exists(path := os.path.join(result.run.directory, METRICS)):
                files.sync(path)  # after a power cut, no checkpoint comes after rows that are lost
            self._checkpoints.save(result.state, result.round_num)


class HasConfig(Callback):
    """Ends a run whose directory was emptied under it: without `config.json` nothing that it writes can be resumed."""

    def on_round_end(self, result: RoundResult) -> None:
        os.stat(os.path.join(result.run.directory, CONFIG))


class Ledger(Callback):
    """Columns that depend on the round alone, such as epsilon: `figures_fn` is from a round to figures by column."""

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
        for row in _read(os.path.join(run.directory, METRICS))[1]:
            round_num, value = int(row[_KEY]), row.get(f"eval/{self._metric}")
            # The last round of a shorter run was evaluated because it was the last.
            counts = round_num < run.first or (round_num == run.first and run.schedule.evaluates(round_num))
            if value and counts:
                self._follow(float(value))

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

    Prechelt 1998, "Early Stopping - But When?", criterion UP. The other arguments are those of `Monitor`.
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
            leaves = tf.nest.flatten(result.weights())
            files.write_directory(
                result.run.directory, _BEST, lambda d: np.savez(os.path.join(d, _WEIGHTS), *leaves), private=True
            )

    def on_end(self, run: RunState) -> None:
        path = os.path.join(run.directory, _BEST, _WEIGHTS)
        if os.path.exists(path):
            try:
                with np.load(path) as leaves:
                    stored = [leaves[name] for name in leaves.files]
            except (ValueError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} is damaged ({error}): restore it, or train anew.") from error
            known = tf.nest.flatten(run.weights)
            # NumPy's files do not know bfloat16.
            stored = [leaf if leaf.dtype == like.dtype else leaf.view(like.dtype) for leaf, like in zip(stored, known)]
            run.weights = tf.nest.pack_sequence_as(run.weights, stored)
