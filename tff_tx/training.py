"""The round loop: sample a cohort, run the round, evaluate, release metrics, checkpoint, resume."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import glob
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff
import tqdm

_CHECKPOINT = "round_"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a run is and what happens between rounds.

    Attributes:
      rounds: Rounds to run in all.
      rounds_per_evaluation: Evaluate after every so many rounds and after the last; 0 never.
      rounds_per_checkpoint: Save the state after every so many rounds and after the last.
    """

    rounds: int
    rounds_per_evaluation: int = 10
    rounds_per_checkpoint: int = 10


class Interrupted(Exception):
    """The user stopped the run; its state is saved, and the same command goes on from there."""


def train(
    engine: Any,
    run_dir: str,
    schedule: Schedule,
    *,
    sample_fn: Callable[[int], Sequence[Any]],
    evaluate_fn: Callable[[tff.learning.models.ModelWeights], dict] | None = None,
    show_progress: bool = True,
) -> Any:
    """Trains, from the last checkpoint in `run_dir` if there is one.

    Metrics go to `metrics.csv` and `tensorboard/` in `run_dir`, one row a round, the state to `checkpoints/`. A run
    that is killed and started again writes what it would have written undisturbed, but for the `time/` columns.

    Args:
      engine: A `tff_tx.runtime.Engine`.
      run_dir: An existing directory.
      schedule: Length of the run.
      sample_fn: From a round (counted from 1) to what the process is told of each client of its cohort; must depend on
        nothing but the round.
      evaluate_fn: From model weights to metrics.
      show_progress: Whether to draw a progress bar on standard error.

    Returns:
      The final state.

    Raises:
      Interrupted: On Ctrl-C, after saving the state of the last whole round.
    """
    checkpoints = Checkpoints(os.path.join(run_dir, "checkpoints"))
    state, first = checkpoints.load_latest(engine.initialize())
    releases = _releases(run_dir)
    progress = _Progress(schedule, first, show_progress)
    traffic = engine.traffic()
    done = first
    try:
        with progress:
            for round_num in range(first + 1, schedule.rounds + 1):
                started = time.monotonic()
                clients = sample_fn(round_num)
                progress.start_round(round_num, len(clients))
                output = engine.run_round(state, clients, progress.clients_done)
                row = _training_row(output.metrics)
                row["clients/sampled"] = len(clients)
                row["comm/upload_bytes_per_client"] = traffic.upload_bytes
                row["comm/download_bytes_per_client"] = traffic.download_bytes
                row["time/round_seconds"] = time.monotonic() - started
                if evaluate_fn is not None and _is_due(round_num, schedule.rounds_per_evaluation, schedule.rounds):
                    started = time.monotonic()
                    metrics = evaluate_fn(engine.model_weights(output.state))
                    row.update({f"eval/{name}": value for name, value in metrics.items()})
                    row["time/evaluation_seconds"] = time.monotonic() - started
                for release in releases:
                    asyncio.run(release.release(row, round_num))
                state, done = output.state, round_num
                if _is_due(round_num, schedule.rounds_per_checkpoint, schedule.rounds):
                    checkpoints.save(state, round_num)
                progress.end_round(row)
    except KeyboardInterrupt:
        if done > first:
            checkpoints.save(state, done)
        raise Interrupted(f"stopped after round {done} of {schedule.rounds}") from None
    return state


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
        state, round_num = asyncio.run(self._manager.load_latest(initial_state))
        return (initial_state, 0) if state is None else (state, round_num)

    def save(self, state: Any, round_num: int) -> None:
        """Saves the state after a round, unless it is there already."""
        with contextlib.suppress(tff.program.ProgramStateExistsError):
            asyncio.run(self._manager.save(state, round_num))


def _is_due(round_num, every, last):
    return every > 0 and (round_num % every == 0 or round_num == last)


def _releases(run_dir):
    # Rewriting the file as a whole is atomic; appending could be killed within a line.
    return [
        tff.program.CSVFileReleaseManager(
            os.path.join(run_dir, "metrics.csv"),
            save_mode=tff.program.CSVSaveMode.WRITE,
            key_fieldname="round_num",
        ),
        tff.program.TensorBoardReleaseManager(os.path.join(run_dir, "tensorboard")),
    ]


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


class _Progress:
    """A bar over all clients of all rounds, with the last figures beside it."""

    def __init__(self, schedule, first, show):
        self._schedule, self._show, self._first = schedule, show, first
        self._bar, self._done = None, 0
        self._figures: dict[str, str] = {}

    def __enter__(self):
        return self

    def start_round(self, round_num, num_clients):
        if self._bar is None:
            total = self._schedule.rounds * num_clients
            self._bar = tqdm.tqdm(
                total=total,
                initial=self._first * num_clients,
                unit="client",
                disable=not self._show,
                dynamic_ncols=True,
                mininterval=0.5,
                smoothing=0.05,
            )
        self._done = 0
        self._bar.set_description(f"round {round_num}/{self._schedule.rounds}", refresh=False)

    def clients_done(self, done):
        self._bar.update(done - self._done)
        self._done = done

    def end_round(self, row):
        rate = row.get("train/num_examples", 0) / max(row["time/round_seconds"], 1e-9)
        self._figures["examples/s"] = f"{rate:.0f}"
        for name in ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "eval/f1"):
            if name in row:
                self._figures[name] = f"{row[name]:.3f}"
        self._bar.set_postfix(self._figures)

    def __exit__(self, *unused):
        if self._bar is not None:
            self._bar.close()
