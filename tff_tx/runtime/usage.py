"""A round on a cluster: how long it waits for what, what it did, and what its processors did meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Callable


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long a round waits for what, in seconds.

    Attributes:
      client: For a client to finish; its worker is ended then, and after three more tries it is left out.
      worker: For a worker that can run a client, when there is none; the client is left out then.
    """

    client: float = 3600.0
    worker: float = 300.0


@dataclasses.dataclass
class RoundRecord:
    """What a round did.

    Attributes:
      broadcast_bytes: Weights that were put up to be fetched, once for all nodes.
      moved_bytes: What crossed from node to node: weights to all nodes but the coordinator's, and sums.
      sums: How many sums workers gave away.
      workers: How many worked.
      steals: How often a worker took from another's queue.
      lost_workers: How many ended or vanished.
      busy_seconds: Summed over the workers' processors, what they computed.
      read_seconds: The same, what they only read data to compute with.
      idle_seconds: The same, what they did neither while clients ran.
      data_seconds: Of the busy time, what they waited for data.
    """

    broadcast_bytes: int = 0
    moved_bytes: int = 0
    sums: int = 0
    workers: int = 0
    steals: int = 0
    lost_workers: int = 0
    busy_seconds: float = 0.0
    read_seconds: float = 0.0
    idle_seconds: float = 0.0
    data_seconds: float = 0.0


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

    def computing(self) -> contextlib.AbstractContextManager:
        """While the block runs, a thread computes."""
        return self._during(1, 0)

    def reading(self) -> contextlib.AbstractContextManager:
        """While the block runs, a thread reads."""
        return self._during(0, 1)

    @contextlib.contextmanager
    def _during(self, computing: int, reading: int) -> Iterator[None]:
        self._change(computing, reading)
        try:
            yield
        finally:
            self._change(-computing, -reading)

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
