"""What clients that took part have told: their training losses, a line a round, for samplers that learn."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.runtime import Hook
from tff_tx.runtime.form import leaf_types, paths

FEEDBACK = "feedback.jsonl"


class Feedback:
    """The losses of the rounds that have been run, in `feedback.jsonl` of a run.

    A round that is run again after a kill adds the same line again; of a line that was torn off, nothing is read.

    Args:
      run_dir: The directory of the run.
    """

    def __init__(self, run_dir: str):
        self._path = os.path.join(run_dir, FEEDBACK)
        self._read, self._rounds = 0, {}

    def rounds(self, before: int) -> list[Mapping[str, float]]:
        """Mean training loss by client, of each round before one, in order.

        Raises:
          UserError: If one is missing.
        """
        self._go_on()
        missing = [r for r in range(1, before) if r not in self._rounds]
        if missing:
            raise UserError(
                f"{self._path} lacks round {missing[0]}, whose losses {setting('cohort.sampling')} goes by: restore "
                f"it, or start anew in another {setting('run.directory')}."
            )
        return [self._rounds[r] for r in range(1, before)]

    def checksum(self, last: int) -> int:
        """CRC-32 of what it says of the first `last` rounds."""
        self._go_on()
        return zlib.crc32(json.dumps([self._rounds.get(r) for r in range(1, last + 1)]).encode())

    def append(self, round_num: int, losses: Mapping[str, float]) -> None:
        """Adds a round; it is on the disk when this returns."""
        with open(self._path, "ab") as file:
            # A line of its own, whatever a kill has left of the last.
            file.write(b"\n" + json.dumps({"round_num": round_num, "losses": dict(losses)}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(self._path, 0o600)

    def _go_on(self):
        """Reads what has come since."""
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as file:
            file.seek(self._read)
            for line in file:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    record = json.loads(line)
                    self._rounds[record["round_num"]] = record["losses"]
                self._read += len(line)


class LossObserver(Hook):
    """Records each client's mean training loss in a `Feedback`.

    The loss is the ratio of the sums `loss` and `items` (or `examples`) among a client's metrics.
    """

    observes = True

    def __init__(self, feedback: Feedback):
        self._feedback, self._losses = feedback, {}

    def bind(self, engine: Any) -> None:
        sent = engine.parts.contribution_type
        leaves = [*enumerate(zip(paths(sent), leaf_types(sent)))]
        found = {path[-1]: i for i, (path, leaf) in reversed(leaves) if path and not leaf.shape}
        number = found.get("items", found.get("examples"))
        if "loss" not in found or number is None:
            raise UserError(
                f"{setting('cohort.sampling')}: clients of this algorithm and task do not tell their losses; sample "
                "with uniform."
            )
        self._places = found["loss"], number

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        self._losses.clear()

    def on_counted(self, position: int, contribution: list) -> None:
        loss, number = (float(np.asarray(contribution[place])) for place in self._places)
        self._losses[position] = loss / number if number else 0.0

    def end_round(self, failures: Mapping[int, str]) -> None:
        for position in failures:
            self._losses.pop(position, None)

    def commit(self, round_num: int, client_ids: Sequence[str]) -> None:
        self._feedback.append(round_num, dict(zip(client_ids, (v for _, v in sorted(self._losses.items())))))

    def checksums(self, round_num: int) -> Mapping[str, int]:
        return {FEEDBACK: self._feedback.checksum(round_num)}
