"""The directory of a run: what it was asked for, and its results in forms that others open."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping
from typing import Any, Callable

from tff_tx.errors import UserError

CONFIG = "config.json"
METRICS = "metrics.csv"
MODEL = "model"

_PACKAGES = (
    "tensorflow",
    "tensorflow-federated",
    "tensorflow-privacy",
    "tf-keras",
    "transformers",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def write_config(run_dir: str, config: Mapping[str, Any], may_change: tuple[str, ...]) -> None:
    """Writes `config.json`, or checks that the run that is there was asked for the same.

    Args:
      run_dir: An existing directory.
      config: Must have a mapping `flags`.
      may_change: Flags that a resumed run may set differently.

    Raises:
      UserError: If the directory holds a run with other flags.
    """
    path = os.path.join(run_dir, CONFIG)
    if os.path.exists(path):
        before = read_config(run_dir)["flags"]
        now = json.loads(json.dumps(config["flags"]))
        names = sorted((set(before) | set(now)) - set(may_change))
        differing = [n for n in names if before.get(n) != now.get(n)]
        if differing:
            told = ", ".join(f"--{n} was {before.get(n)!r}, is {now.get(n)!r}" for n in differing[:5])
            raise UserError(
                f"--run_dir={run_dir} holds a run with other flags ({told}): use its flags to resume it, or another "
                "directory to start anew."
            )
    write_json(path, config)


def read_config(run_dir: str) -> dict[str, Any]:
    """Reads `config.json`.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    path = os.path.join(run_dir, CONFIG)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise UserError(
            f"--run_dir={run_dir} has no {CONFIG}, so is not the directory of a run: check the path."
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it or start a new run.") from error


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
      path: An existing directory, the value of --run_dir.
      num_bytes: What will be written.

    Raises:
      UserError: If less is left.
    """
    free = shutil.disk_usage(path).free
    if free < num_bytes:
        raise UserError(
            f"--run_dir={path} is on a disk with {free / 1e6:.0f} MB left, and the run needs about "
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


def write_model(run_dir: str, save_fn: Callable[[str], Any]) -> str:
    """Writes the model directory as a whole or not at all; see `write_directory`."""
    return write_directory(run_dir, MODEL, save_fn)


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
