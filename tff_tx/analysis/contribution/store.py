"""The updates of a run on the disk: a directory a round, a file a client."""

from __future__ import annotations

import math
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_federated as tff

from tff_tx.aggregators import compression
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.runtime import Hook

UPDATES = "updates"

_PENDING = ".round"
_CLIENT, _CLIENTS = "client_", "clients.json"
_STATE = "state.tftx"
_WEIGHTS_AND_METRICS = 20_000
_ROUND = re.compile(r"round_(\d+)")


class UpdateStore(Hook):
    """Stores, for each round, the process's state before it and what of each client was added up.

    That is the contribution after compression and the scaling of stale updates, so that `Engine.combine` replays the
    round. Contributions are written as they come, so that memory does not grow with the cohort, and appear as a round
    when it is committed. A round that is run again replaces what was there.
    """

    observes = True

    def __init__(self, run_dir: str):
        self._directory = os.path.join(run_dir, UPDATES)
        self._pending = os.path.join(self._directory, _PENDING)
        self._positions: set[int] = set()

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        shutil.rmtree(self._pending, ignore_errors=True)
        files.make_private(self._directory)
        os.makedirs(self._pending)
        self._positions.clear()
        self._write(_STATE, engine.flatten_state(state))

    def on_counted(self, position: int, contribution: list) -> None:
        self._write(_file(position), [np.asarray(leaf) for leaf in contribution])
        self._positions.add(position)

    def end_round(self, failures: Mapping[int, str]) -> None:
        for position in self._positions.intersection(failures):  # it failed when a lost worker's clients ran again
            os.remove(os.path.join(self._pending, _file(position)))
            self._positions.remove(position)

    def commit(self, round_num: int, client_ids: Sequence[str]) -> None:
        if len(client_ids) != len(self._positions):
            raise ValueError(f"{len(self._positions)} contributions came of {len(client_ids)} clients.")
        files.write_json(os.path.join(self._pending, _CLIENTS), list(client_ids))
        final = os.path.join(self._directory, f"round_{round_num:06d}")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(self._pending, final)

    def rounds(self) -> list[int]:
        """The rounds there are, in order.

        Raises:
          UserError: If there are none.
        """
        names = os.listdir(self._directory) if os.path.isdir(self._directory) else []
        found = sorted(int(match[1]) for match in map(_ROUND.fullmatch, names) if match)
        if not found:
            raise UserError(f"{self._directory} has no updates: train with {setting('run.keep_updates')}.")
        return found

    def read(self, round_num: int) -> tuple[list[str], list[np.ndarray], list[list[np.ndarray]]]:
        """The clients of a round, the state before it and the clients' contributions.

        Raises:
          UserError: If a file is missing or damaged.
        """
        directory = os.path.join(self._directory, f"round_{round_num:06d}")
        try:
            clients = files.parse_json(os.path.join(directory, _CLIENTS), list)
            names = sorted(name for name in os.listdir(directory) if name.startswith(_CLIENT))
            if len(names) != len(clients):
                raise ValueError(f"{len(names)} contributions of {len(clients)} clients")
            paths = [pathlib.Path(directory, name) for name in (_STATE, *names)]
            state, *contributions = (compression.decode(path.read_bytes(), max_bytes=None) for path in paths)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{directory} is damaged ({error}): restore it, or train again with {setting('run.keep_updates')} in "
                f"a new {setting('run.directory')}."
            ) from error
        return clients, state, contributions

    def _write(self, name, arrays):
        with files.atomic(os.path.join(self._pending, name), "wb", durable=False, private=True) as file:
            file.write(compression.encode(arrays, entropy_coding=False))


def bytes_of_run(
    process: tff.learning.templates.LearningProcess, rounds: int, clients_per_round: int, updates_per_client: int = 1
) -> int:
    """Bytes that the updates of a run take, at most; a client sends `updates_per_client` of the model's shape."""
    state = process.next.type_signature.parameter[0].member
    contribution = updates_per_client * _num_bytes(state.global_model_weights.trainable) + _WEIGHTS_AND_METRICS
    return rounds * (_num_bytes(state) + clients_per_round * contribution)


def _num_bytes(value_type):
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in tff.structure.flatten(value_type))


def _file(position):
    return f"{_CLIENT}{position:06d}.tftx"
