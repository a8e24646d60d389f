"""Processor usage of a worker: computing, reading data, or idle."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Callable


class Usage:
    """Counts how long processors compute, and how long others only read.

    Threads say what they begin and end; at any time as many processors compute as threads do, and of those left over as
    many read as threads do. So reading counts only as far as no computing hides it.

    Args:
      processors: How many there are.
      clock: Seconds, never going back.
    """

    def __init__(self, processors: int, clock: Callable[[], float] = time.monotonic):
        self._processors, self._clock, self._lock = processors, clock, threading.Lock()
        self._computing = self._reading = 0
        self._read_seconds, self._since = 0.0, clock()

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """While the block runs, a thread computes."""
        self._change(computing=1)
        try:
            yield
        finally:
            self._change(computing=-1)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While the block runs, a thread reads."""
        self._change(reading=1)
        try:
            yield
        finally:
            self._change(reading=-1)

    def take_read_seconds(self) -> float:
        """Seconds that processors spent only reading since the last call, summed over processors."""
        self._change()
        with self._lock:
            taken, self._read_seconds = self._read_seconds, 0.0
        return taken

    def _change(self, computing: int = 0, reading: int = 0) -> None:
        with self._lock:
            now = self._clock()
            free = max(0, self._processors - self._computing)
            self._read_seconds += min(free, self._reading) * (now - self._since)
            self._since = now
            self._computing += computing
            self._reading += reading
