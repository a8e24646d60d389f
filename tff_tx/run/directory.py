"""The directory of a run: what it was asked for, and its results in forms that others open."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from typing import Any, Callable

from tff_tx.core import files
from tff_tx.core.errors import UserError

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
    files.write_json(path, config)


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


def write_model(run_dir: str, save_fn: Callable[[str], Any]) -> str:
    """Writes the model directory as a whole or not at all; see `files.write_directory`."""
    return files.write_directory(run_dir, MODEL, save_fn)
