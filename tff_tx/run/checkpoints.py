"""The states of a run on the disk, in TFF's format."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import glob
import logging
import os
from collections.abc import Mapping
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core import files
from tff_tx.core.errors import UserError, setting

_CHECKPOINT = "round_"
_SUMS = "checksums.json"
_MODEL = "model.json"


class Checkpoints:
    """States by round; what a kill left half-written is never read, and removed.

    A state has the CRC-32 of its files, and of what else the run had written. One that is damaged, or beside which rows
    of a run are missing, is not read, and the one before it is.

    Args:
      directory: Where they are; the last two stay.
      rows_fn: From a round to checksums of what files of the run say of the rounds until then, by file.
    """

    def __init__(self, directory: str, rows_fn: Callable[[int], Mapping[str, int]] = lambda round_num: {}):
        self._directory, self._rows_fn, self._newest = directory, rows_fn, -1
        files.make_private(directory)  # states are as confidential as the data that they were made of
        for leftover in glob.glob(os.path.join(glob.escape(directory), f".{_CHECKPOINT}*")):
            files.remove(leftover)
        self._manager = tff.program.FileProgramStateManager(directory, prefix=_CHECKPOINT)

    def load_latest(self, initial_state: Any, at_most: int | None = None) -> tuple[Any, int]:
        """The newest state that is whole and its round; `initial_state` and 0 if there is none.

        With `at_most`, of no later round.

        Raises:
          UserError: If there are states, but none is whole.
        """
        problems = []
        for round_num in reversed(_rounds(self._directory)):
            if at_most is not None and round_num > at_most:
                continue
            problem = self._problem(round_num)
            if problem is None:
                for message in problems:
                    logging.warning("%s: going back to the checkpoint of round %d", message, round_num)
                self._newest = round_num
                return run_coroutine(self._manager.load(round_num, initial_state)), round_num
            problems.append(problem)
        if problems:
            raise UserError(
                f"{'; '.join(problems)}: restore it, or start anew in another {setting('run.directory')}; there is no "
                "earlier checkpoint to go back to."
            )
        return initial_state, 0

    def save(self, state: Any, round_num: int) -> None:
        """Saves the state after a round, unless it was the last that was saved or loaded."""
        if round_num == self._newest:
            return

        def write(path):
            manager = tff.program.FileProgramStateManager(path, prefix="", keep_total=0)
            run_coroutine(manager.save(state, round_num))
            made = os.path.join(path, str(round_num))
            for name in os.listdir(made):
                os.replace(os.path.join(made, name), os.path.join(path, name))
            os.rmdir(made)
            files.write_json(
                os.path.join(path, _SUMS), {"files": _checksums(path), "rows": dict(self._rows_fn(round_num))}
            )

        files.write_directory(self._directory, f"{_CHECKPOINT}{round_num}", write, private=True)
        self._newest = round_num
        rounds = _rounds(self._directory)
        for old in set(rounds) - set([r for r in rounds if r <= round_num][-2:]):  # later ones are damaged
            files.remove(os.path.join(self._directory, f"{_CHECKPOINT}{old}"))

    def _problem(self, round_num):
        """What is wrong with the state of a round; None: nothing."""
        path = os.path.join(self._directory, f"{_CHECKPOINT}{round_num}")
        try:
            sums = files.parse_json(os.path.join(path, _SUMS))
            if _checksums(path) != sums["files"]:
                return f"{path} is damaged"
            found = self._rows_fn(round_num)
            wrong = [name for name, value in sums["rows"].items() if value != found.get(name, value)]
            return f"{' and '.join(wrong)} is not as it was when {path} was saved" if wrong else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{path} is damaged ({error})"


def _checksums(path):
    names = (os.path.join(directory, name) for directory, _, found in os.walk(path) for name in found)
    return {os.path.relpath(name, path): files.checksum(name) for name in names if os.path.basename(name) != _SUMS}


def _rounds(directory):
    """The rounds of which there are states, in order."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(int(n.removeprefix(_CHECKPOINT)) for n in names if n.removeprefix(_CHECKPOINT).isdigit())


def last_round(directory: str) -> int:
    """The round of the newest state; 0 if there is none."""
    return max(_rounds(directory), default=0)


def note_model(directory: str) -> None:
    """Takes note that the model of the run is that of the newest state."""
    files.write_json(os.path.join(directory, _MODEL), {"round": last_round(directory)})


def model_round(directory: str) -> int | None:
    """The round that the model of the run is of; None: unknown."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(files.parse_json(os.path.join(directory, _MODEL))["round"])
    return None


def newest_rows(directory: str) -> tuple[int, Mapping[str, int]]:
    """The round of the newest state, and the checksums of what the run had beside it; without any, 0 and none."""
    round_num = last_round(directory)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return round_num, dict(files.parse_json(os.path.join(directory, f"{_CHECKPOINT}{round_num}", _SUMS))["rows"])
    return round_num, {}


def run_coroutine(coroutine: Any) -> Any:
    """As `asyncio.run`, but for Ctrl-C, which that takes for itself and forgets if the coroutine never waits.

    Where a loop is running already, as in notebooks, the coroutine runs in a thread of its own.

    Raises:
      OSError: If TensorFlow cannot read or write a file.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(coroutine)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(_run, coroutine).result()


def _run(coroutine):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
    finally:
        loop.close()
