"""The round loop: sample a cohort, run the round, evaluate, call back, resume."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx.cohorts import CohortLog
from tff_tx.cohorts import log as cohort_log
from tff_tx.core import files, interruption
from tff_tx.core.errors import Interrupted, UserError, setting
from tff_tx.run.callbacks import Callback, RoundResult, RunState, SavesCheckpoints, metrics_checksum
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.run.directory import CHECKPOINTS, METRICS, TENSORBOARD
from tff_tx.run.progress import Progress
from tff_tx.runtime import Engine, RoundOutput, TooFewClientsError, profile

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
      releases_once: Whether the state is saved before the first round, as it has the key of the noise, and after every
        round: none that a kill may have released is made again with other noise, or of other clients.
    """

    rounds: int
    rounds_per_evaluation: int = 10
    rounds_per_checkpoint: int = 10
    min_clients: int = 1
    max_retries: int = 3
    releases_once: bool = False

    def evaluates(self, round_num: int) -> bool:
        """Whether the model is evaluated after a round."""
        return self._is_due(round_num, self.rounds_per_evaluation)

    def saves(self, round_num: int) -> bool:
        """Whether the state is saved after a round."""
        return self.releases_once or self._is_due(round_num, self.rounds_per_checkpoint)

    def _is_due(self, round_num, every):
        return every > 0 and (round_num % every == 0 or round_num == self.rounds)


class NotFiniteError(UserError):
    """The server's step made a model that is not finite, or clients made updates that are not."""


def train(
    engine: Engine,
    run_dir: str,
    schedule: Schedule,
    *,
    cohort_fn: Callable[[int, int, float], Any],
    evaluate_fn: Callable[[tff.learning.models.ModelWeights], dict] | None = None,
    callbacks: Sequence[Callback] = (),
    show_progress: bool = True,
    profiled: bool = False,
    prepare_fn: Callable[[Sequence[str], Callable[[int, int], None]], None] | None = None,
) -> tff.learning.models.ModelWeights:
    """Trains, from the last checkpoint in `run_dir` if there is one; returns the model in the end.

    Cohorts go to `cohorts.jsonl` in `run_dir`, the state to `checkpoints/`, all else is up to the callbacks. A run that
    is killed and started again writes what it would have written undisturbed, but for the `time/` columns.

    Args:
      engine: What runs the rounds.
      run_dir: An existing directory.
      schedule: Length of the run.
      cohort_fn: From (round counted from 1, attempt, simulated seconds so far) to a `cohorts.Cohort`, by these alone.
      evaluate_fn: From model weights to metrics.
      callbacks: Called in this order, and then the checkpoint is saved if it is due.
      show_progress: Whether to draw a progress bar.
      profiled: Whether to write a trace of the second round from the start, which TensorBoard shows.
      prepare_fn: Called before a round with the ids of its clients and a function that shows progress (done, total).

    Raises:
      Interrupted: On Ctrl-C, or when a round had too few clients too often; the state of the last round is saved.
      UserError: If a round makes a model that is not finite, or too few finite updates, or too few clients are there
        for it, so that the same command would again; the state before is saved. Or if the disk is full.
    """
    checkpoints, state, first, log = _begin(engine, run_dir, schedule)
    run = RunState(engine, run_dir, schedule, first)
    callbacks, done = [*callbacks, SavesCheckpoints(checkpoints)], first
    try:
        with _settled_heap(), log, Progress(schedule.rounds, first, show_progress) as progress:
            _call(run_dir, callbacks, "on_start", run)
            for round_num in range(first + 1, schedule.rounds + 1):
                if run.stopped:
                    break
                attempt = _Attempt(engine, schedule, cohort_fn, progress, prepare_fn)
                with profile(os.path.join(run_dir, TENSORBOARD), profiled and round_num == first + _PROFILED):
                    result = attempt.measured(run, state, round_num, log)
                _conclude(result, state, attempt, log, evaluate_fn, callbacks)
                state, done = result.state, round_num
                progress.end_round(result.row)
    except (Exception, KeyboardInterrupt) as error:
        if (end := _ending(error, schedule, run, done)) is None:
            raise
        with files.disk_errors(run_dir):
            if done > first:
                checkpoints.save(state, done)
        raise end from None
    run.weights = engine.model_weights(state)
    _call(run_dir, callbacks, "on_end", run)
    if run.stopped:
        logging.warning("stopped early: %s", run.stopped)
    return run.weights


def _begin(engine, run_dir, schedule):
    """The checkpoints, the state of the last one, its round, and the log of cohorts, which goes on after it."""
    with files.disk_errors(run_dir):
        rows_fn = functools.partial(_row_checksums, engine, run_dir)
        checkpoints = Checkpoints(os.path.join(run_dir, CHECKPOINTS), rows_fn)
        state, first = checkpoints.load_latest(engine.initialize())
        if schedule.releases_once:
            checkpoints.save(state, first)
        return checkpoints, state, first, CohortLog(run_dir, first)


def _conclude(result, before, attempt, log, evaluate_fn, callbacks):
    """Evaluates and records a round that made a model; `before` is the state before it."""
    _require_finite(result, before)
    if evaluate_fn is not None and result.run.schedule.evaluates(result.round_num):
        _evaluate(result, evaluate_fn, callbacks)
    with files.disk_errors(result.run.directory):
        attempt.record(log, result.round_num)
        result.run.engine.commit_round(result.round_num, result.finished)
    _call(result.run.directory, callbacks, "on_round_end", result)


def _ending(error, schedule, run, done):
    """What a run ends with: what the same command would run into again, or why it ended before its time.

    None: the error itself, as nobody expects it. But whatever it is, it may be what became of an interrupt.
    """
    error = KeyboardInterrupt() if interruption.received else error
    if not isinstance(error, (KeyboardInterrupt, TooFewClientsError, NotFiniteError)):
        return None
    if isinstance(error, NotFiniteError):
        return error
    if isinstance(error, TooFewClientsError) and error.not_finite:
        attempts = schedule.max_retries + 1
        return _not_finite(f"round {done + 1}: {error}, in the last of {attempts} attempts", run, done)
    if isinstance(error, TooFewClientsError) and not error.failures:
        return _too_few_report(error, schedule, run, done)
    return Interrupted(_why(error, schedule, done))


def _too_few_report(error, schedule, run, done):
    """Of a round to which so few clients came, as sampling and simulated devices have it, and will have it again."""
    if error.wanted == schedule.min_clients:
        remedy = f"lower {setting('cohort.min_clients')}, or raise {setting('cohort.max_round_retries')}, and resume it"
    else:
        remedy = (
            f"a secure sum withstands no more dropouts than {setting('aggregation.secure_dropping')}: raise it, or "
            f"lower {setting('devices.dropout_rate')}, in another {setting('run.directory')}"
        )
    attempts = schedule.max_retries + 1
    return UserError(
        f"round {done + 1}: {error}, in the last of {attempts} {'attempts' if attempts > 1 else 'attempt'}, as no more "
        f"of its cohort reported: {remedy}{_saved(run, done)}."
    )


def _why(error, schedule, done):
    message = f"stopped after round {done} of {schedule.rounds}"
    if isinstance(error, TooFewClientsError):
        message += f", as in {schedule.max_retries + 1} attempts at the next {error}"
    return message


def _call(run_dir, callbacks, name, value):
    with files.disk_errors(run_dir):
        for callback in callbacks:
            getattr(callback, name)(value)


def _require_finite(result, before):
    """Rejects a model that is not finite after a round, and a mean of updates that the server has left out as such.

    `before` is the state before the round.
    """

    def leaves(state):
        found = result.run.engine.model_weights(state)
        models = found.values() if isinstance(found, Mapping) else [found]
        return [np.asarray(leaf, np.float32) for model in models for leaf in model.trainable]

    left_out = any(value for name, value in result.row.items() if name.endswith("server/update_non_finite"))
    with np.errstate(all="ignore"):
        # A sum takes no memory; it may overflow where no addend does.
        if not left_out and all(np.isfinite(leaf.sum()) or np.isfinite(leaf).all() for leaf in leaves(result.state)):
            return
        norm = np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in leaves(before)))
    last, losses = result.round_num - 1, [(name, v) for name, v in result.row.items() if name.endswith("/loss")]
    raise _not_finite(
        f"round {last + 1} made {'a mean of updates' if left_out else 'a model'} that is not finite, of a model of "
        f"norm {norm:.3g} after round {last}{''.join(f', with {name} {value:.3g}' for name, value in losses)}",
        result.run,
        last,
    )


def _not_finite(what, run, last):
    return NotFiniteError(
        f"{what}: lower {setting('client.learning_rate')}, {setting('server.learning_rate')}, or noise and its clip "
        f"norm, or set {setting('client.clip_norm')} or {setting('aggregation.clip_norm')}, in another "
        f"{setting('run.directory')}{_saved(run, last)}."
    )


def _saved(run, last):
    """Where the state is that a run ends with, if it has made a round."""
    return f"; the state after round {last} is in {run.directory}" if last else ""


def _row_checksums(engine, run_dir, last):
    """What files with a row a round say of the first `last` rounds, and what clients retained after them."""
    return {
        **engine.checksums(last),
        METRICS: metrics_checksum(os.path.join(run_dir, METRICS), last),
        cohort_log.LOG: cohort_log.checksum(os.path.join(run_dir, cohort_log.LOG), last),
    }


def _evaluate(result, evaluate_fn, callbacks):
    started = time.monotonic()
    result.evaluation = dict(evaluate_fn(result.weights()))
    result.row.update({f"eval/{name}": value for name, value in result.evaluation.items()})
    result.row["time/evaluation_seconds"] = time.monotonic() - started
    _call(result.run.directory, callbacks, "on_evaluation", result)


class _Attempt:
    """Attempts at one round, until enough clients finish."""

    def __init__(self, engine, schedule, cohort_fn, progress, prepare_fn):
        self._engine, self._schedule, self._cohort_fn, self._progress = engine, schedule, cohort_fn, progress
        self._prepare_fn = prepare_fn
        self.number, self.seconds, self.preparing_seconds = 0, 0.0, 0.0
        self.cohort: Any = None
        self.output: RoundOutput | None = None

    def run(self, state, round_num, start):
        """Runs the round, and leaves what came of it in the attributes; TooFewClientsError: after the last retry."""
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
        if self._prepare_fn is not None:
            self._prepare(round_num)
        self._progress.start_round(round_num, len(arguments))
        if len(arguments) < least:
            raise TooFewClientsError(len(arguments), least, {})
        return self._engine.run_round(state, arguments, min_clients=least, on_progress=self._progress.clients_done)

    def _prepare(self, round_num):
        started, clients = time.monotonic(), self.cohort.reported
        self._prepare_fn(clients, functools.partial(self._progress.prepare_round, round_num, len(clients)))
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

    def measured(self, run, state, round_num, log) -> RoundResult:
        """Runs the round; what callbacks get of it, with its seconds. `log` has the rounds before."""
        started = time.monotonic()
        self._engine.offer(state, round_num)
        self.run(state, round_num, log.seconds)
        interruption.check()  # a client whose step was interrupted is not one that failed
        row = _row(self, self._engine.traffic(), log)
        row["time/round_seconds"] = time.monotonic() - started
        if self._prepare_fn is not None:
            row["time/features_seconds"] = self.preparing_seconds
        return RoundResult(run, round_num, row, self.output.state, self.cohort, self.output, self.finished)

    def record(self, log, round_num):
        """Writes the cohort into the log."""
        cohort, output = self.cohort, self.output
        lists = (cohort.selected, self.finished, cohort.dropped, cohort.stragglers, self.failed)
        versions = [version for i, version in enumerate(cohort.versions) if i not in output.failures]
        log.append(round_num, self.number, *lists, self.seconds, output.download_bytes, versions)


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
    upload = traffic.upload_bytes if output.upload_bytes is None else output.upload_bytes
    row["comm/upload_bytes_per_client"] = upload
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


@contextlib.contextmanager
def _settled_heap():
    """Keeps Python from counting what is there already among the garbage to look for.

    Saving leaves graphs behind that refer to themselves. Python looks for such garbage when objects have become a
    quarter more, and after importing TensorFlow that is hundreds of megabytes later. Programs keep their imports from
    being counted to their end: to look through them once more takes half a second.
    """
    gc.collect()
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    gc.collect()  # which counts what is left: the quarter is of that
    try:
        yield
    finally:
        gc.unfreeze()


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
