"""The states of a run on the disk, in TFF's format."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import glob
import os
import shutil
from typing import Any

import tensorflow_federated as tff

_CHECKPOINT = "round_"


class Checkpoints:
    """States by round; what a kill left half-written is never read, and removed.

    Args:
      directory: Where they are; the last two stay.
    """

    def __init__(self, directory: str):
        for leftover in glob.glob(os.path.join(glob.escape(directory), f"{_CHECKPOINT}*_temp*")):
            shutil.rmtree(leftover)
        self._manager = tff.program.FileProgramStateManager(
            directory, prefix=_CHECKPOINT, keep_total=2, keep_first=False
        )

    def load_latest(self, initial_state: Any) -> tuple[Any, int]:
        """The newest state and its round; `initial_state` and 0 if there is none."""
        state, round_num = run_coroutine(self._manager.load_latest(initial_state))
        return (initial_state, 0) if state is None else (state, round_num)

    def save(self, state: Any, round_num: int) -> None:
        """Saves the state after a round, unless it is there already."""
        with contextlib.suppress(tff.program.ProgramStateExistsError):
            run_coroutine(self._manager.save(state, round_num))


def last_round(directory: str) -> int:
    """The round of the newest state; 0 if there is none."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return max((int(n.removeprefix(_CHECKPOINT)) for n in names if n.removeprefix(_CHECKPOINT).isdigit()), default=0)


def run_coroutine(coroutine: Any) -> Any:
    """As `asyncio.run`, but for Ctrl-C, which that takes for itself and forgets if the coroutine never waits.

    Where a loop is running already, as in notebooks, the coroutine runs in a thread of its own.
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
    finally:
        loop.close()
