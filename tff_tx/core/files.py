"""Files that appear as a whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from typing import Any, Callable

from tff_tx.core.errors import UserError, setting

SCRATCH = ".tmp"
"""Ending of a file that `atomic` has begun; a process that is killed leaves it."""


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


@contextlib.contextmanager
def disk_errors(run_dir: str) -> Iterator[None]:
    """Says in a sentence that a run directory cannot be written, or is gone."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{setting('run.directory')}={run_dir} cannot be written ({error.strerror or error}): make room or restore "
            "it, and give the same command again, which resumes the run from its last checkpoint."
        ) from error


def make_private(path: str) -> None:
    """Makes a directory that only its owner can open, whatever the umask."""
    os.makedirs(path, exist_ok=True)
    with contextlib.suppress(PermissionError):  # it is another's, who let this user write
        os.chmod(path, 0o700)


def link_directory(source: str, target: str) -> None:
    """Links or copies the files of a directory, which are replaced and never changed, to another that lacks them."""

    def there(folder, names):
        place = os.path.join(target, os.path.relpath(folder, source))
        return [name for name in names if os.path.isfile(os.path.join(place, name))]

    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_linked, ignore=there)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)


def check_space(path: str, num_bytes: int) -> None:
    """Rejects the value of run.directory, an existing directory, on a disk with less room than what will be written."""
    free = shutil.disk_usage(path).free
    if free < num_bytes:
        raise UserError(
            f"{setting('run.directory')}={path} is on a disk with {free / 1e6:.0f} MB left, and the run needs about "
            f"{num_bytes / 1e6:.0f} MB: free some or choose another directory."
        )


def write_json(path: str, value: Any) -> None:
    """Writes JSON atomically, as `plain`."""
    _write(path, json.dumps(plain(value), indent=2) + "\n")


def plain(value: Any) -> Any:
    """What JSON has for a value: null for NaN and "Infinity", which it does not know, and plain forms of records."""
    written = json.dumps(value, default=_plain)
    return json.loads(written, parse_constant=lambda name: None if name == "NaN" else name)


def parse_json(path: str, kind: type = dict) -> Any:
    """The object, or the list, in a JSON file, for those who say by themselves what to do if there is none.

    Raises:
      OSError: If it cannot be read.
      ValueError: If it has none; the message says why.
    """
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, kind):
        raise ValueError(f"it has a {type(value).__name__}, not a {kind.__name__}")
    return value


def read_json(path: str, kind: type = dict) -> Any:
    """As `parse_json`, but a file that has none is a `UserError`."""
    try:
        return parse_json(path, kind)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it.") from error


def write_text(path: str, text: str, flag: str) -> None:
    """Writes a text file atomically; an error that names the flag if that cannot be."""
    try:
        _write(path, text)
    except OSError as error:
        raise UserError(f"{flag}={path} cannot be written ({error.strerror}): choose another place.") from error


def write_directory(run_dir: str, name: str, save_fn: Callable[[str], Any], private: bool = False) -> str:
    """Writes a directory of a run as a whole or not at all, by a function that writes into a path; returns its path.

    With `private`, only its owner can open it.
    """
    path, temporary = os.path.join(run_dir, name), os.path.join(run_dir, f".{name}.tmp")
    remove(temporary)
    (make_private if private else os.makedirs)(temporary)
    save_fn(temporary)
    for directory, _, names in os.walk(temporary):
        for each in (*(os.path.join(directory, name) for name in names), directory):
            if private:
                os.chmod(each, 0o700 if each == directory else 0o600)
            sync(each)
    if not _exchange(temporary, path):
        remove(path)
        os.replace(temporary, path)
    sync(run_dir)
    remove(temporary)
    return path


def _exchange(path: str, other: str) -> bool:
    """Has two directories take each other's place, at no time missing; False: one is, or the system cannot."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange is not None and exchange(here, os.fsencode(path), here, os.fsencode(other), both) == 0


def remove(path: str) -> None:
    """Removes a file or a directory with all that is in it, if there is one."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


@contextlib.contextmanager
def atomic(path: str, mode: str = "w", durable: bool = True, private: bool = False) -> Iterator[Any]:
    """A file to write that takes the place of `path` at the end of the block; an exception leaves what was there.

    With `durable`, it does so even if the power fails then; with `private`, only its owner can read it. One process at
    a time writes a path.
    """
    scratch = f"{path}{SCRATCH}"
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        remove(scratch)
        with open(scratch, mode, opener=private_opener if private else None, **text) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(scratch)
        raise
    if durable:
        sync(os.path.dirname(os.path.abspath(path)))


def private_opener(path: str, flags: int) -> int:
    """For `open`: a new file that only its owner can read, whatever the umask."""
    return os.open(path, flags, 0o600)


def sync(path: str) -> None:
    """Has the disk write what it was given of a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: str, start: int = 0, found: int = 0) -> int:
    """CRC-32 of a file from a byte on, after that of what is before it."""
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


@functools.cache
def code_digest(directory: str) -> str:
    """SHA-256 of the Python files below a directory, on which what they store depends."""
    total = hashlib.sha256()
    for root, _, names in sorted(os.walk(directory)):
        for name in sorted(name for name in names if name.endswith(".py")):
            with open(os.path.join(root, name), "rb") as file:
                total.update(hashlib.sha256(file.read()).digest())
    return total.hexdigest()


def _write(path: str, text: str) -> None:
    with atomic(path) as file:
        file.write(text)


def _plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
