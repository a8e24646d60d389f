"""The log of all that leaves a participant: append-only, each line with the hash of the one before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from tff_tx.core.errors import UserError, setting
from tff_tx.federation.envelopes import Payload, payload_digest

NAME = "audit.jsonl"
_START = "0" * 64


class AuditLog:
    """Writes a log; a line is on the disk before what it tells of leaves.

    Args:
      path: Of the file, which is gone on with.

    Raises:
      UserError: If it cannot be written, or its last lines have been changed.
    """

    def __init__(self, path: str):
        self._path = path
        self._last, self._number = _START, 0
        _remove_begun(path)
        for entry in read(path):
            self._last, self._number = entry["hash"], entry["number"]

    def append(self, what: str, payload: Payload = (), known: bytes | None = None, **details: Any) -> None:
        """Adds a line: what leaves, how many bytes, and their SHA-256, unless it is `known`.

        Raises:
          UserError: If the disk is full or the like: then nothing leaves.
        """
        entry = {
            "number": self._number + 1,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "what": what,
            **details,
            "bytes": sum(map(len, payload)),
            "sha256": (payload_digest(payload) if known is None else known).hex(),
            "before": self._last,
        }
        entry["hash"] = _hash(entry)
        try:
            with _whole_or_not(self._path), open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self._path} cannot be written ({error.strerror}), so that nothing leaves.") from None
        self._last, self._number = entry["hash"], entry["number"]


def describe(state_dir: str, chosen_by: str) -> Iterator[str]:
    """The checked entries of the log in a directory, a line each, and in the end how many they are.

    Raises:
      UserError: If there is none, or an entry is not the one that was written; the setting `chosen_by` names the
        directory.
    """
    path = os.path.join(state_dir, NAME)
    if not os.path.exists(path):
        raise UserError(
            f"{setting(chosen_by)}={state_dir}: there is no {path}; name the directory of one that has joined a "
            "coordinator."
        )
    entries = list(read(path))
    for entry in entries:
        yield " ".join(f"{name}={value}" for name, value in entry.items() if name not in ("before", "hash"))
    yield f"{len(entries)} entries, none changed, added or removed; a log that lost its last lines would look the same."


def read(path: str) -> Iterator[dict[str, Any]]:
    """The entries of a log, checked; none if there is no file.

    Raises:
      UserError: At the first line that is not the one that was written there.
    """
    before, number = _START, 0
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                entry = json.loads(line)
                if entry["hash"] != _hash({k: v for k, v in entry.items() if k != "hash"}):
                    raise ValueError("it was changed")
                if entry["before"] != before or entry["number"] != number:
                    raise ValueError("a line before it was removed or added")
                before = entry["hash"]
                yield entry
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}, line {number}: {error}; keep it, and start another log.") from None


@contextlib.contextmanager
def _whole_or_not(path):
    """Takes back what of a line has been written when the rest cannot be."""
    size = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise


def _remove_begun(path):
    """Removes a last line without an end: its program was killed or the power failed before what it tells of left."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
