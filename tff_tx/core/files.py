"""Files that appear as a whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from typing import Any, Callable

from tff_tx.core.errors import UserError, setting


def make_directory(path: str, flag: str) -> None:
    """Makes a directory that can be written.

    Raises:
      UserError: If that cannot be; the message names the flag.
    """
    try:
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, ".writable")
        with open(probe, "w", encoding="utf-8"):
            pass
        os.remove(probe)
    except OSError as error:
        raise UserError(f"{flag}={path} cannot be written ({error.strerror}): choose another directory.") from error


def check_space(path: str, num_bytes: int) -> None:
    """Refuses a directory on a disk without room.

    Args:
      path: An existing directory, the value of run.directory.
      num_bytes: What will be written.

    Raises:
      UserError: If less is left.
    """
    free = shutil.disk_usage(path).free
    if free < num_bytes:
        raise UserError(
            f"{setting('run.directory')}={path} is on a disk with {free / 1e6:.0f} MB left, and the run needs about "
            f"{num_bytes / 1e6:.0f} MB: free some or choose another directory."
        )


def write_json(path: str, value: Any) -> None:
    """Writes JSON atomically."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, default=_plain)
        file.write("\n")
    os.replace(temporary, path)


def write_text(path: str, text: str, flag: str) -> None:
    """Writes a text file atomically.

    Raises:
      UserError: If it cannot be written; the message names the flag.
    """
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{flag}={path} cannot be written ({error.strerror}): choose another place.") from error


def write_directory(run_dir: str, name: str, save_fn: Callable[[str], Any]) -> str:
    """Writes a directory as a whole or not at all.

    Args:
      run_dir: The directory of the run.
      name: Of the directory in it.
      save_fn: Writes into the directory it is given.

    Returns:
      The path of the directory.
    """
    path, temporary = os.path.join(run_dir, name), os.path.join(run_dir, f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    save_fn(temporary)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)
    return path


def _plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
