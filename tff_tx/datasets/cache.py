"""The cache directory of encoded data and of surveys."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from tff_tx.core.errors import UserError, setting

if TYPE_CHECKING:
    from tff_tx.datasets.spec import DataSpec


def default_cache_dir() -> str:
    """The cache directory unless another is chosen: `$XDG_CACHE_HOME/tff_tx`, or `~/.cache/tff_tx`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "tff_tx")


def cache_path(spec: DataSpec, ending: str, no_matter: Collection[str], version: Any, *content: Any) -> str:
    """The path of a file in the cache directory of a specification, named by all that decides what is in it.

    That is the specification but for the fields that do not matter, the version of what writes the file, and further
    content, as JSON.
    """
    settings = {name: value for name, value in dataclasses.asdict(spec).items() if name not in no_matter}
    name = hashlib.sha256(json.dumps([version, settings, *content], sort_keys=True).encode()).hexdigest()[:32]
    directory = os.path.abspath(os.path.expanduser(spec.cache_dir or default_cache_dir()))
    return os.path.join(directory, name + ending)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Holds the lock of a file that is about to be written, and makes its directory."""
    # The system drops the lock when its holder ends, however it ends.
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = open(path + ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"{setting('data.cache_dir')}: cannot write to {os.path.dirname(path)} ({error.strerror}); name a "
            "directory that can be written."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
