"""What a round costs and gives, whatever engine runs it."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that cross the network between the server and one client in one round, uncompressed.

    Attributes:
      download_bytes: What the server broadcasts; where it broadcasts changes of a model, the model. What stays as it is
        in every round, such as frozen weights, does not count: a client needs it once.
      upload_bytes: What the client sends back: update, weight and metrics.
    """

    download_bytes: int
    upload_bytes: int


@dataclasses.dataclass(frozen=True)
class RoundOutput:
    """What a round gives.

    Attributes:
      state: The server's new state.
      metrics: The round's metrics: those of the process, and those of the engine's hooks.
      failures: Why clients were left out: the reason by the client's position in the cohort.
      seconds: Where the time went, by "prepare" (what is broadcast), "clients" (from the first client's start to the
        last one's end), "data" (of that, what threads waited for data, summed over clients), "aggregation" (adding up)
        and "server" (the update); on a cluster also what the workers' processors did while clients ran, summed over
        them: "busy" computing, only "reading" data, or "idle". As far as the engine knows.
      upload_bytes: Mean number of bytes sent by the clients that finished, encoded; None: not measured.
      download_bytes: Encoded bytes sent to a client that had received everything before; None: not measured.
    """

    state: Any
    metrics: Any
    failures: Mapping[int, str] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    upload_bytes: float | None = None
    download_bytes: int | None = None


class TooFewClientsError(RuntimeError):
    """Fewer clients than required finished a round; the state is as it was.

    Attributes:
      wanted: Number of clients that were required.
      failures: As in `RoundOutput`; empty: fewer were there.
    """

    def __init__(self, finished: int, wanted: int, failures: Mapping[int, str]):
        reasons = "; ".join(list(dict.fromkeys(failures.values()))[:3])
        super().__init__(f"{finished} of at least {wanted} clients finished" + (f" ({reasons})" if reasons else ""))
        self.wanted, self.failures = wanted, failures

    @property
    def not_finite(self) -> bool:
        """Whether clients failed, all because what they computed was not finite, as it will be again."""
        return bool(self.failures) and all("not finite" in reason for reason in self.failures.values())


class Clock:
    """Parts the time into named stretches."""

    def __init__(self):
        self.seconds: collections.Counter = collections.Counter()
        self._since = time.monotonic()

    def stop(self, name: str) -> None:
        """Counts the time since the last stop for `name`."""
        now = time.monotonic()
        self.seconds[name] += now - self._since
        self._since = now
