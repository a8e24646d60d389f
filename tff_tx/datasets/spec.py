"""Which data to load, how to deal them to clients, and where what is made of them is cached."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from typing import Any

from tff_tx.config import DataConfig, RunConfig, check
from tff_tx.config.registries import DATASETS
from tff_tx.config.rules_data import DATA
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting


@dataclasses.dataclass(frozen=True)
class DataSpec(DataConfig):
    """The section `data` of a configuration, with the seed that decides dealing and splitting.

    With partition "auto" the data's own clients are used if there are any, else "iid"; with "column" and `num_clients`
    below theirs, some of them are drawn at random. Data with a test split of their own keep that. A part to hold out is
    a fraction, or a number of clients or examples (of a client, with the splits "within_client" and "time").

    Raises:
      UserError: At construction, if a setting has a value that it cannot have, whatever the data are.
    """

    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        check(RunConfig(data=self), DATA)

    @classmethod
    def of(cls, config: RunConfig) -> DataSpec:
        """The data of a configuration."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "seed"]
        return cls(**{name: getattr(config.data, name) for name in names}, seed=config.run.seed)

    @property
    def number_names(self) -> tuple[str, ...]:
        """The columns of a record's `numbers`."""
        return ("value",) if self.client_per_column else self.numeric_columns

    @property
    def sorted_by(self) -> str | None:
        """The column of times by which records are sorted; None: they are as they are."""
        return None if self.time_column == "none" else self.time_column

    @functools.cached_property
    def known_labels(self) -> tuple[str, ...]:
        """The labels in order, where they are named or the data set has them by itself; else empty.

        Raises:
          UserError: If their file cannot be read, or is no list of labels.
        """
        if self.label_file is None:
            return self.label_names or DATASETS[self.dataset].label_names
        name = f"{setting('data.label_file')}={self.label_file}"
        try:
            with open(os.path.expanduser(self.label_file), encoding="utf-8") as file:
                labels = tuple(file.read().splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{name} cannot be read ({error}): name a text file with a label in each line.") from error
        if not labels or len(set(labels)) < len(labels) or not all(labels):
            raise UserError(f"{name} is empty, or has an empty line or a label twice: give each label a line.")
        return labels


def default_cache_dir() -> str:
    """The cache directory unless another is chosen: `$XDG_CACHE_HOME/tff_tx`, or `~/.cache/tff_tx`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "tff_tx")


def cache_directory(chosen: str | None) -> str:
    """The path of the cache directory that a setting names, or of the default one."""
    return os.path.abspath(os.path.expanduser(chosen or default_cache_dir()))


def cache_path(spec: DataSpec, ending: str, no_matter: Collection[str], *content: Any) -> str:
    """The path of a file in the cache directory of a specification, named by all that decides what is in it.

    That is the specification but for the fields that do not matter, the code of this package, which reads and encodes
    the data, and further content, as JSON.
    """
    settings = {name: value for name, value in dataclasses.asdict(spec).items() if name not in no_matter}
    code = files.code_digest(os.path.dirname(__file__))
    name = hashlib.sha256(json.dumps([code, settings, *content], sort_keys=True).encode()).hexdigest()[:32]
    return os.path.join(cache_directory(spec.cache_dir), name + ending)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Holds the lock of a file that is about to be written, and makes its directory."""
    # The system drops the lock when its holder ends, however it ends.
    try:
        if not os.path.isdir(os.path.dirname(path)):
            files.make_private(os.path.dirname(path))
        lock = open(path + ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"{setting('data.cache_dir')}: cannot write to {os.path.dirname(path)} ({error.strerror}); name a "
            "directory that can be written."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
