"""The directory of a run: what it was asked for, and its results in forms that others open."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from tff_tx.config import RunConfig, check_resume, laws, resolve
from tff_tx.core import files, locks
from tff_tx.core.errors import UserError, setting
from tff_tx.run.checkpoints import last_round

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
METRICS = "metrics.csv"
MODEL = "model"
RESULTS = "results.json"
TENSORBOARD = "tensorboard"

_ENVIRONMENT = {
    **{"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "", "ONEDNN_DEFAULT_FPMATH_MODE": ""},
    **{"TF_XLA_FLAGS": "", "XLA_FLAGS": "", "NVIDIA_TF32_OVERRIDE": ""},
}
"""Environment variables that decide how TensorFlow rounds, and their defaults."""

_PRINTS, _SECRET_FACTS = "fingerprints", "fingerprints.json"
_DECIDING = (_PRINTS, "environment", "versions")
"""Facts that a resumed run must share with its beginning."""

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


@contextlib.contextmanager
def writing(run_dir: str, named_by: str = "run.directory") -> Iterator[None]:
    """Makes a run directory, and holds its lock for the length of the block; the lock ends with its process.

    A directory that is new and has nothing in it at the end is removed again.

    Args:
      run_dir: The directory.
      named_by: Path of the setting that names it.

    Raises:
      UserError: If the directory cannot be written, or another process writes it.
    """
    made = [run_dir]
    while not os.path.exists(made[-1]):
        made.append(os.path.dirname(os.path.abspath(made[-1])))
    files.make_directory(run_dir, setting(named_by))
    with locks.sole_writer(run_dir, setting(named_by)):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if made[1:] and os.listdir(run_dir) == [locks.LOCK]:
                    os.remove(os.path.join(run_dir, locks.LOCK))
                    for directory in made[:-1]:
                        os.rmdir(directory)


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def check_rounds(run_dir: str, rounds: int) -> None:
    """Checks that a run is not shorter than what has been run of it."""
    done = last_round(os.path.join(run_dir, CHECKPOINTS))
    if done > rounds:
        raise UserError(f"{setting('run.rounds')}={rounds}: {done} rounds have been run; raise it.")


def write_config(run_dir: str, config: RunConfig, facts: Mapping[str, Any]) -> None:
    """Writes `config.json` with more facts, or checks that the run that is there can go on with these settings.

    Raises:
      UserError: If the directory holds a run with other settings, data, model or versions, or one that does not say.
    """
    path = os.path.join(run_dir, CONFIG)
    environment = {name: os.environ.get(name, default) for name, default in _ENVIRONMENT.items()}
    facts = {"versions": versions(), "environment": environment, **facts}
    if os.path.exists(path):
        run = read_run(run_dir)
        check_resume(run.config, RunConfig.from_json(files.plain(config.to_json())))
        _check_facts(run, facts)
        secret = os.path.join(run_dir, CHECKPOINTS, _SECRET_FACTS)
        if laws.is_private(config) and last_round(os.path.join(run_dir, CHECKPOINTS)) and not os.path.exists(secret):
            raise UserError(
                f"{secret} is missing, so whether the data are those of the rounds before is unknown: restore it, or "
                f"choose another {setting('run.directory')}."
            )
    elif found := [name for name in (CHECKPOINTS, METRICS) if os.path.exists(os.path.join(run_dir, name))]:
        raise UserError(
            f"{setting('run.directory')}={run_dir} has {' and '.join(found)} of a run but no {CONFIG}, so what it was "
            "is unknown: restore that file, or choose another directory."
        )
    secret = {}
    if laws.is_private(config):  # who has all data but one client's could try which fit the fingerprint
        secret = {_PRINTS: facts.pop(_PRINTS, {})}
    files.write_json(path, {**config.to_json(), "facts": facts})
    if secret:
        files.make_private(os.path.join(run_dir, CHECKPOINTS))
        files.write_json(os.path.join(run_dir, CHECKPOINTS, _SECRET_FACTS), secret)


def _check_facts(run, now):
    """Checks that contents and versions on which a run depends are those that it began with."""
    changed = [
        f"{name} was {value!r}, is {now[part][name]!r}" if part != _PRINTS else f"other contents of the {name}"
        for part in _DECIDING
        for name, value in run.facts.get(part, {}).items()
        if name in now.get(part, {}) and value != now[part][name] and name != "python"
    ]
    if changed:
        raise UserError(
            f"{setting('run.directory')}={run.directory} holds a run that began otherwise ({'; '.join(changed[:5])}), "
            "so that its numbers would be others from here on: restore that to resume it, or choose another directory."
        )


def read_run(run_dir: str) -> StoredRun:
    """Reads `config.json`, also of version 1.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    path = os.path.join(run_dir, CONFIG)
    try:
        stored = files.parse_json(path)
        config = resolve(RunConfig.from_json(stored))
        facts = stored.get("facts") or _facts_of_version_1(stored)
        secret = os.path.join(run_dir, CHECKPOINTS, _SECRET_FACTS)
        if os.path.exists(secret):
            path = secret
            facts = {**facts, **files.parse_json(secret)}
        if not all(isinstance(part, Mapping) for part in (facts, *(facts.get(name, {}) for name in _DECIDING))):
            raise ValueError("facts are not objects")
    except FileNotFoundError:
        raise UserError(
            f"{setting('run.directory')}={run_dir} has no {CONFIG}, so it is not a run directory: check the path."
        ) from None
    except UserError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or start a new run.") from error
    return StoredRun(run_dir, config, facts)


def read_metrics(run_dir: str) -> pd.DataFrame:
    """The rows of `metrics.csv`, one a round.

    Raises:
      UserError: If there are none, or the file is damaged.
    """
    path = os.path.join(run_dir, METRICS)
    try:
        rows = pd.read_csv(path)
        if rows.empty or "round_num" not in rows:
            raise ValueError("no rows of rounds")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}): restore it, or train the run again in another directory."
        ) from error
    return rows


def _facts_of_version_1(stored):
    facts = {name: stored[name] for name in ("versions", "clients", "parameters", "privacy") if name in stored}
    labels = stored.get("task", {}).get("label_names", [])
    return {**facts, "client_privacy": stored.get("privacy_inside_of_clients", {}), "label_names": labels}
