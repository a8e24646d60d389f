"""Locks of directories: one process at a time writes what is in them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator

from tff_tx.core.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def sole_writer(directory: str, name: str) -> Iterator[None]:
    """Holds the lock of a directory for the length of the block; the lock ends with its process.

    Args:
      directory: Which; it exists.
      name: What has named it, for the error.

    Raises:
      UserError: If another process holds it; the message says which.
    """
    path = os.path.join(directory, LOCK)
    with open(path, "a+", encoding="utf-8") as lock:
        lock.seek(0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                raise BlockingIOError  # it was its holder's, who has just removed the directory
        except (BlockingIOError, FileNotFoundError):
            raise UserError(
                f"{name}={directory} is being written by {lock.read()}: wait until it ends or stop it, or choose "
                "another directory."
            ) from None
        lock.truncate(0)
        now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {now}")
        lock.flush()
        yield
