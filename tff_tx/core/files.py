"""Files that appear as a whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from typing import Any, Callable

from tff_tx.core.errors import UserError, setting


def make_directory(path: str, flag: str) -> None:
    """Makes a directory that can be written; an error that names the flag if that cannot be."""
    try:
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, ".writable")
        with open(probe, "w", encoding="utf-8"):
            pass
        with contextlib.suppress(FileNotFoundError):  # another process probed at the same time
            os.remove(probe)
    except OSError as error:
        raise UserError(f"{flag}={path} cannot be written ({error.strerror}): choose another directory.") from error


def check_space(path: str, num_bytes: int) -> None:
    """Rejects the value of run.directory, an existing directory, on a disk with less room than what will be written."""
    free = shutil.disk_usage(path).free
    if free < num_bytes:
        raise UserError(
            f"{setting('run.directory')}={path} is on a disk with {free / 1e6:.0f} MB left, and the run needs about "
            f"{num_bytes / 1e6:.0f} MB: free some or choose another directory."
        )


def write_json(path: str, value: Any) -> None:
    """Writes JSON atomically."""
    _write(path, json.dumps(value, indent=2, default=_plain) + "\n")


def write_text(path: str, text: str, flag: str) -> None:
    """Writes a text file atomically; an error that names the flag if that cannot be."""
    try:
        _write(path, text)
    except OSError as error:
        raise UserError(f"{flag}={path} cannot be written ({error.strerror}): choose another place.") from error


def write_directory(run_dir: str, name: str, save_fn: Callable[[str], Any]) -> str:
    """Writes a directory of a run as a whole or not at all, by a function that writes into a path; returns its path."""
    path, temporary = os.path.join(run_dir, name), os.path.join(run_dir, f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    save_fn(temporary)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)
    return path


def _write(path: str, text: str) -> None:
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.tmp", path)


def _plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
