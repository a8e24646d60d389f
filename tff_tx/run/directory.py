"""The directory of a run: what it was asked for, and its results in forms that others open."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from typing import Any

from tff_tx.config import RunConfig, check_resume, resolve
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
METRICS = "metrics.csv"
MODEL = "model"
RESULTS = "results.json"
TENSORBOARD = "tensorboard"

_PACKAGES = ("tensorflow", "tensorflow-federated", "tensorflow-privacy", "tf-keras", "transformers", "numpy")


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """What `config.json` says of a run.

    Attributes:
      directory: The run directory.
      config: The settings.
      facts: What else there is: `versions`, `label_names`, `clients` by split, `parameters`, `privacy` ...
    """

    directory: str
    config: RunConfig
    facts: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The directory of the trained model.

        Raises:
          UserError: If the run has not ended.
        """
        path = os.path.join(self.directory, MODEL)
        if not os.path.isdir(path):
            raise UserError(
                f"{setting('run.directory')}={self.directory} has no model yet: let the run finish (the same command "
                "resumes it)."
            )
        return path


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def write_config(run_dir: str, config: RunConfig, facts: Mapping[str, Any]) -> None:
    """Writes `config.json` with more facts, or checks that the run that is there can go on with these settings.

    Raises:
      UserError: If the directory holds a run with other settings.
    """
    path = os.path.join(run_dir, CONFIG)
    if os.path.exists(path):
        check_resume(read_run(run_dir).config, RunConfig.from_json(json.loads(json.dumps(config.to_json()))))
    files.write_json(path, {**config.to_json(), "facts": {"versions": versions(), **facts}})


def read_run(run_dir: str) -> StoredRun:
    """Reads `config.json`, also of version 1.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    path = os.path.join(run_dir, CONFIG)
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
        config = resolve(RunConfig.from_json(stored))
    except FileNotFoundError:
        raise UserError(
            f"{setting('run.directory')}={run_dir} has no {CONFIG}, so it is not a run directory: check the path."
        ) from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or start a new run.") from error
    return StoredRun(run_dir, config, stored.get("facts") or _facts_of_version_1(stored))


def _facts_of_version_1(stored):
    facts = {name: stored[name] for name in ("versions", "clients", "parameters", "privacy") if name in stored}
    labels = stored.get("task", {}).get("label_names", [])
    return {**facts, "client_privacy": stored.get("privacy_inside_of_clients", {}), "label_names": labels}
