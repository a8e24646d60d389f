"""The log of cohorts, and of the bytes that clients download."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tff_tx.core import files
from tff_tx.core.errors import UserError

LOG = "cohorts.jsonl"


class DownloadLedger:
    """Bytes that clients download if the server sends the model's change of each round.

    A client that was last selected in round s needs, in round t, the changes of rounds s + 1 to t, or the model,
    whichever is smaller; one that is selected for the first time needs the model.
    """

    def __init__(self):
        self._sums: dict[int, int] = {0: 0}
        self._last_selected: dict[str, int] = {}
        self._last = 0

    def mean_bytes(self, clients: Sequence[str], delta_bytes: int, model_bytes: int) -> float:
        """Mean bytes that a selected client downloads in the next round, of a change and a model of these sizes."""
        total = self._sums[self._last] + delta_bytes
        needed = [
            min(model_bytes, total - self._sums[self._last_selected[c]]) if c in self._last_selected else model_bytes
            for c in clients
        ]
        return sum(needed) / max(1, len(needed))

    def add(self, round_num: int, clients: Sequence[str], delta_bytes: int) -> None:
        """Records a round, later than those before it."""
        self._sums[round_num] = self._sums[self._last] + delta_bytes
        self._last = round_num
        self._last_selected.update(dict.fromkeys(clients, round_num))


class CohortLog(contextlib.AbstractContextManager):
    """The log of a run's cohorts, JSON lines in `cohorts.jsonl`; sampling `fixed` replays it.

    A line is on the disk before `append` returns. An incomplete line, as a kill leaves it, is dropped when the log is
    opened again, and so are rounds after the one that the run resumes from, which are run again.

    Args:
      run_dir: The directory of the run.
      resumed_round: The last round whose line stays; 0 for a new run.

    Attributes:
      ledger: The `DownloadLedger` of the rounds in the log.
      seconds: Simulated seconds of all rounds in the log: when the next one starts.

    Raises:
      UserError: If a line before the last is damaged.
    """

    def __init__(self, run_dir: str, resumed_round: int = 0):
        path = os.path.join(run_dir, LOG)
        retained = []
        if os.path.exists(path):
            retained = [record for _, record in records(path, path) if record["round_num"] <= resumed_round]
        with files.atomic(path, "wb", private=True) as file:
            file.write(b"".join(map(_line, retained)))
        self.seconds = sum((record.get("seconds", 0.0) for record in retained), 0.0)
        self.ledger = DownloadLedger()
        for record in retained:
            self.ledger.add(record["round_num"], record["clients"], record.get("delta_bytes", 0))
        self._file = open(path, "ab")  # noqa: SIM115

    def append(
        self,
        round_num: int,
        attempt: int,
        clients: Sequence[str],
        reported: Sequence[str],
        dropped: Sequence[str] = (),
        stragglers: Sequence[str] = (),
        failed: Mapping[str, str] | None = None,
        seconds: float = 0.0,
        delta_bytes: int | None = None,
        versions: Sequence[int] = (),
    ) -> None:
        """Records a round.

        Args:
          round_num: The round, counted from 1.
          attempt: The attempt at it that counted.
          clients: The selected clients.
          reported: The participants, whose work the round used.
          dropped: Clients that vanished; `stragglers` were too late.
          stragglers: See `dropped`.
          failed: Reasons of failures, by client id.
          seconds: Simulated duration of the round, with the attempts before this one.
          delta_bytes: Size of the change that was sent, if changes are sent.
          versions: Of an asynchronous round, the version of the model that each of `reported` started from.
        """
        record = {
            "round_num": round_num,
            "attempt": attempt,
            "clients": list(clients),
            "reported": list(reported),
            "dropped": list(dropped),
            "stragglers": list(stragglers),
            "failed": dict(failed or {}),
            "seconds": float(seconds),
        }
        if delta_bytes is not None:
            record["delta_bytes"] = delta_bytes
        if versions:
            record["versions"] = list(versions)
        self.ledger.add(round_num, record["clients"], delta_bytes or 0)
        self._file.write(_line(record))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.seconds += record["seconds"]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __exit__(self, *unused):
        self.close()


def checksum(path: str, last: int) -> int:
    """CRC-32 of the lines of the first `last` rounds in a log, which need not exist."""
    found = 0
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        for line in itertools.islice(file, last):
            found = zlib.crc32(line.rstrip(b"\n") + b"\n", found)
    return found


def records(path: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and value of every line that is whole.

    Raises:
      OSError: If the file cannot be read.
      UserError: If a line is no record; the message begins with `name` and the line's number.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{name}, line {number}"
            try:
                record = json.loads(line.decode())
            except ValueError:
                # No beginning of a JSON object is one: without an end of line, this was torn off.
                if not line.endswith(b"\n"):
                    return
                raise UserError(f"{where}: not valid JSON; correct the line or remove it.") from None
            if not isinstance(record, dict) or type(record.get("round_num")) is not int:
                raise UserError(
                    f"{where}: must be an object with a whole number as round_num; correct the line or remove it."
                )
            yield where, record


def _line(record):
    return json.dumps(record).encode() + b"\n"
