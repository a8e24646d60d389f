"""The round loop: ask a cohort, run the round, evaluate, release metrics, checkpoint, resume."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import functools
import gc
import glob
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx.cohorts.log import CohortLog
from tff_tx.run.directory import METRICS
from tff_tx.run.metrics_file import MetricsFile
from tff_tx.run.progress import Progress
from tff_tx.runtime import Engine, RoundOutput, TooFewClientsError, profile

_CHECKPOINT = "round_"
_PROFILED = 2  # the first round still compiles


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a run is and what happens between rounds.

    Attributes:
      rounds: Rounds to run in all.
      rounds_per_evaluation: Evaluate after every so many rounds and after the last; 0 never.
      rounds_per_checkpoint: Save the state after every so many rounds and after the last.
      min_clients: A round in which fewer clients finish is tried again with another cohort; 0: none is.
      max_retries: How often, before the run ends.
    """

    rounds: int
    rounds_per_evaluation: int = 10
    rounds_per_checkpoint: int = 10
    min_clients: int = 1
    max_retries: int = 3


class Interrupted(Exception):
    """The run ended early, by the user or because too few clients finished; its state is saved.

    The same command goes on from there.
    """


def train(
    engine: Engine,
    run_dir: str,
    schedule: Schedule,
    *,
    cohort_fn: Callable[[int, int, float], Any],
    evaluate_fn: Callable[[tff.learning.models.ModelWeights], dict] | None = None,
    figures_fn: Callable[[int], Mapping[str, float]] | None = None,
    show_progress: bool = True,
    profiled: bool = False,
    keep: Any = None,
    prepare_fn: Callable[[Sequence[str], Callable[[int, int], None]], None] | None = None,
) -> Any:
    """Trains, from the last checkpoint in `run_dir` if there is one.

    Metrics go to `metrics.csv` and `tensorboard/` in `run_dir`, one row a round, the cohorts to `cohorts.jsonl`, the
    state to `checkpoints/`. A run that is killed and started again writes what it would have written undisturbed, but
    for the `time/` columns.

    Args:
      engine: What runs the rounds.
      run_dir: An existing directory.
      schedule: Length of the run.
      cohort_fn: From (round counted from 1, attempt, simulated seconds so far) to a `cohorts.Cohort`; must depend
        on nothing else.
      evaluate_fn: From model weights to metrics.
      figures_fn: From a round to what else its row has, by column; must depend on nothing else.
      show_progress: Whether to draw a progress bar on standard error.
      profiled: Whether to write a trace of the second round from the start, which TensorBoard shows.
      keep: A `contribution.UpdateStore` that keeps each round's contributions, or None; takes a local engine.
      prepare_fn: Called before a round with the ids of its clients, and what to tell progress to (done, total); takes
        `time/features_seconds`.

    Returns:
      The final state.

    Raises:
      Interrupted: On Ctrl-C, or when a round had too few clients too often; after saving the state of the last whole
        round.
    """
    checkpoints = Checkpoints(os.path.join(run_dir, "checkpoints"))
    state, first = checkpoints.load_latest(engine.initialize())
    metrics_file = MetricsFile(os.path.join(run_dir, METRICS), first)
    tensorboard = tff.program.TensorBoardReleaseManager(os.path.join(run_dir, "tensorboard"))
    traffic = engine.traffic()
    done = first
    try:
        with (
            _settled_heap(),
            CohortLog(run_dir, first) as log,
            Progress(schedule.rounds, first, show_progress) as progress,
        ):
            for round_num in range(first + 1, schedule.rounds + 1):
                started = time.monotonic()
                trace = profile(os.path.join(run_dir, "tensorboard"), profiled and round_num == first + _PROFILED)
                with trace:
                    attempt = _Attempt(engine, schedule, cohort_fn, progress, keep, prepare_fn)
                    attempt.run(state, round_num, log.seconds)
                row = _row(attempt, traffic, log)
                row.update(figures_fn(round_num) if figures_fn is not None else {})
                row["time/round_seconds"] = time.monotonic() - started
                if prepare_fn is not None:
                    row["time/features_seconds"] = attempt.preparing_seconds
                output = attempt.output
                if evaluate_fn is not None and _is_due(round_num, schedule.rounds_per_evaluation, schedule.rounds):
                    started = time.monotonic()
                    metrics = evaluate_fn(engine.model_weights(output.state))
                    row.update({f"eval/{name}": value for name, value in metrics.items()})
                    row["time/evaluation_seconds"] = time.monotonic() - started
                metrics_file.append(row, round_num)
                _run(tensorboard.release(row, round_num))
                attempt.record(log, round_num)
                if keep is not None:
                    keep.commit(round_num, attempt.finished)
                state, done = output.state, round_num
                if _is_due(round_num, schedule.rounds_per_checkpoint, schedule.rounds):
                    checkpoints.save(state, round_num)
                progress.end_round(row)
    except (KeyboardInterrupt, TooFewClientsError) as error:
        if done > first:
            checkpoints.save(state, done)
        told = f"stopped after round {done} of {schedule.rounds}"
        if isinstance(error, TooFewClientsError):
            told += f", as in {schedule.max_retries + 1} attempts at the next {error}"
        raise Interrupted(told) from None
    return state


class _Attempt:
    """Attempts at one round, until enough clients finish."""

    def __init__(self, engine, schedule, cohort_fn, progress, keep, prepare_fn):
        self._engine, self._schedule, self._cohort_fn, self._progress = engine, schedule, cohort_fn, progress
        self._keep, self._prepare_fn = keep, prepare_fn
        self.number, self.seconds, self.preparing_seconds = 0, 0.0, 0.0
        self.cohort: Any = None
        self.output: RoundOutput | None = None

    def run(self, state, round_num, start):
        """Runs the round, and leaves what came of it in the attributes.

        Raises:
          TooFewClientsError: When the retries are used up.
        """
        while True:
            self.cohort = self._cohort_fn(round_num, self.number, start + self.seconds)
            self.seconds += self.cohort.seconds
            try:
                self.output = self._try(state, round_num)
                self._log_failures(round_num, self.output.failures)
                return
            except TooFewClientsError as error:
                self._log_failures(round_num, error.failures)
                if self.number == self._schedule.max_retries:
                    raise
                logging.warning("round %d is tried again with another cohort: %s", round_num, error)
                self.number += 1

    def _try(self, state, round_num):
        arguments, least = self.cohort.arguments, self._schedule.min_clients
        self._prepare(round_num)
        self._progress.start_round(round_num, len(arguments))
        if len(arguments) < least:
            raise TooFewClientsError(len(arguments), least, {})
        options = {}
        if self._keep is not None:
            self._keep.start(self._engine.flatten_state(state))
            options["on_contribution"] = self._keep.add
        return self._engine.run_round(
            state, arguments, min_clients=least, on_progress=self._progress.clients_done, **options
        )

    def _prepare(self, round_num):
        if self._prepare_fn is None:
            return
        started, number = time.monotonic(), len(self.cohort.reported)
        tell = functools.partial(self._progress.prepare_round, round_num, number)
        self._prepare_fn(self.cohort.reported, tell)
        self.preparing_seconds += time.monotonic() - started

    def _log_failures(self, round_num, failures):
        for position, reason in failures.items():
            logging.warning("round %d: client %s is left out: %s", round_num, self.cohort.reported[position], reason)

    @property
    def failed(self) -> dict[str, str]:
        """Why clients were left out, by id."""
        return {self.cohort.reported[position]: reason for position, reason in self.output.failures.items()}

    @property
    def finished(self) -> list[str]:
        """The clients whose work the round used, in order."""
        return [c for i, c in enumerate(self.cohort.reported) if i not in self.output.failures]

    def record(self, log, round_num):
        """Writes the cohort into the log."""
        cohort, failed = self.cohort, self.failed
        log.append(
            round_num,
            self.number,
            cohort.selected,
            self.finished,
            cohort.dropped,
            cohort.stragglers,
            failed,
            self.seconds,
            self.output.download_bytes,
        )


def _row(attempt, traffic, log) -> collections.OrderedDict:
    """A round's metrics by column name; `log` has the rounds before."""
    row, cohort, output = _training_row(attempt.output.metrics), attempt.cohort, attempt.output
    row["clients/sampled"] = len(cohort.selected)
    row["clients/finished"] = len(cohort.reported) - len(output.failures)
    row["clients/failed"] = len(output.failures)
    row["clients/dropped"] = len(cohort.dropped)
    row["clients/stragglers"] = len(cohort.stragglers)
    row["clients/retries"] = attempt.number
    if attempt.seconds:
        row["simulated/round_seconds"] = attempt.seconds
        row["simulated/total_seconds"] = log.seconds + attempt.seconds
    row["comm/upload_bytes_per_client"] = _known(output.upload_bytes, traffic.upload_bytes)
    row["comm/download_bytes_per_client"] = traffic.download_bytes
    if output.download_bytes is not None:
        row["comm/delta_bytes"] = output.download_bytes
        row["comm/download_bytes_per_client"] = log.ledger.mean_bytes(
            cohort.selected, output.download_bytes, traffic.download_bytes
        )
    row.update({f"time/{name}_seconds": seconds for name, seconds in output.seconds.items()})
    if there := sum(output.seconds.get(name, 0.0) for name in ("busy", "reading", "idle")):
        row["time/idle_share"] = output.seconds["idle"] / there
    return row


def _known(measured, otherwise):
    return otherwise if measured is None else measured


class Checkpoints:
    """States by round, in TFF's format; what a kill left half-written is never read and cleaned up."""

    def __init__(self, directory: str):
        for leftover in glob.glob(os.path.join(directory, f"{_CHECKPOINT}*_temp*")):
            shutil.rmtree(leftover)
        self._manager = tff.program.FileProgramStateManager(
            directory, prefix=_CHECKPOINT, keep_total=2, keep_first=False
        )

    def load_latest(self, initial_state: Any) -> tuple[Any, int]:
        """The newest state and its round; `initial_state` and 0 if there is none."""
        state, round_num = _run(self._manager.load_latest(initial_state))
        return (initial_state, 0) if state is None else (state, round_num)

    def save(self, state: Any, round_num: int) -> None:
        """Saves the state after a round, unless it is there already."""
        with contextlib.suppress(tff.program.ProgramStateExistsError):
            _run(self._manager.save(state, round_num))


def _run(coroutine: Any) -> Any:
    """As `asyncio.run`, but for Ctrl-C, which that takes for itself and forgets if the coroutine never waits."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@contextlib.contextmanager
def _settled_heap():
    """Keeps Python from counting what is there already among the garbage to look for.

    Saving leaves graphs behind that refer to themselves. Python looks for such garbage when objects have become a
    quarter more, and after importing TensorFlow that is hundreds of megabytes later.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # which counts what is left: the quarter is of that
    try:
        yield
    finally:
        gc.unfreeze()


def _is_due(round_num, every, last):
    return every > 0 and (round_num % every == 0 or round_num == last)


def _training_row(metrics) -> collections.OrderedDict:
    """The round's metrics by column name."""
    names = {"client_work": "", "finalizer": "server", "aggregator": "aggregator", "distributor": "distributor"}
    row = collections.OrderedDict()
    for part, value in metrics.items():
        for name, leaf in _leaves(value, names.get(part, part)):
            name = "train/learning_rate" if name == "learning_rate" else name
            row[name] = np.asarray(leaf).item()
    return row


def _leaves(value, path):
    if hasattr(value, "items"):
        for name, part in value.items():
            yield from _leaves(part, f"{path}/{name}" if path else name)
    elif np.ndim(value) == 0 and not isinstance(value, (tuple, list)):
        yield path, value
