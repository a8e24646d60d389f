"""Simulated devices, their availability, speed and dropouts, and the synchronous rounds that they give.

After Bonawitz et al., "Towards Federated Learning at Scale: System Design" (2019), sections 2 and 3: the server selects
more devices than it needs from those that are idle and charging, and a round ends when enough have reported or at its
deadline. A round is simulated before anything is trained, so that only the clients that report are trained.

Everything is a pure function of seed, round, attempt and clients, and the same in a resumed run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from tff_tx.cohorts.sampling import Sampler
from tff_tx.config import DevicesConfig

# Between day and night a fourfold difference, as Bonawitz et al. saw it (section 9).
_LEAST_AVAILABLE, _MOST_AVAILABLE = 0.2, 0.8
_NIGHT = 2.5
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Cohort:
    """The clients of one attempt at a round.

    Attributes:
      selected: Ids of the selected clients.
      reported: Those of them that report in time: the clients to train.
      arguments: The process's argument for each of `reported`, in their order.
      dropped: Clients that vanish.
      stragglers: Clients that would be late.
      seconds: Simulated duration.
      versions: Of asynchronous rounds, the version of the model that each of `reported` started from.
    """

    selected: Sequence[str]
    reported: Sequence[str]
    arguments: Sequence[Any] = ()
    dropped: Sequence[str] = ()
    stragglers: Sequence[str] = ()
    seconds: float = 0.0
    versions: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Devices(DevicesConfig):
    """The clients' devices and what the server expects of them; by default, all report at once.

    A client trains exp(speed_spread * z) times as long as the median device, its z drawn once from a standard normal
    distribution. `round_overhead_seconds` are the server's, and not part of a client's deadline.

    Attributes:
      over_selection: Selected clients per needed report, at least 1. With 1 the round waits for its whole cohort.
      seed: Seed of everything random.

    Raises:
      UserError: At construction, if a setting is out of its range.
    """

    over_selection: float = 1.0
    seed: int = 0

    def num_selected(self, goal: int) -> int:
        """Number of clients that are selected, so that `goal` report."""
        # Rounding first: 100 * 1.1 is a hair above 110.
        return math.ceil(round(goal * self.over_selection, 6))

    def candidates(self, goal: int) -> int:
        """Number of clients to draw, so that `select` can be expected to find `num_selected(goal)` at any hour."""
        if self.availability == "always":
            return self.num_selected(goal)
        return math.ceil(round(self.num_selected(goal) / _LEAST_AVAILABLE, 6))

    def select(self, candidates: Iterable[str], simulated_time: float, limit: int | None = None) -> list[str]:
        """The first `limit` (None: all) of the candidates that are available at a time, seconds since a UTC midnight.

        With a limit they must be in random order, else the same are always preferred.
        """
        return list(itertools.islice((c for c in candidates if self.is_available(c, simulated_time)), limit))

    def probability(self, client_id: str, simulated_time: float) -> float:
        """The probability that a client is available: idle, charging, and on a connection that costs nothing.

        "always": 1. "diurnal": 0.2 + 0.6 * (1 + cos(2 pi (h - 2.5) / 24)) / 2, h being the client's local hour: 0.8 at
        half past two at night, 0.2 in the afternoon at half past two, 0.5 in the mean over a day. A client lives in one
        of 24 time zones, all as likely.
        """
        if self.availability == "always":
            return 1.0
        hours = self._local_hours(client_id, simulated_time)
        curve = (1 + math.cos(2 * math.pi * (hours - _NIGHT) / 24)) / 2
        return _LEAST_AVAILABLE + (_MOST_AVAILABLE - _LEAST_AVAILABLE) * curve

    def is_available(self, client_id: str, simulated_time: float) -> bool:
        """Whether a client is available: with `probability`, and without a break from an evening to a morning."""
        if self.availability == "always":
            return True
        # One draw from one afternoon to the next: the curve rises above it once and falls below it once.
        day = math.floor((self._local_hours(client_id, simulated_time) - _NIGHT - 12) / 24)
        return self._uniform("available", day, client_id) < self.probability(client_id, simulated_time)

    def duration(self, client_id: str, num_examples: int, num_bytes: int) -> float:
        """Seconds from selection to report of a client that trains on examples, and receives and sends bytes."""
        z = statistics.NormalDist().inv_cdf(self._uniform("speed", client_id))
        computing = num_examples * self.seconds_per_example * math.exp(self.speed_spread * z)
        return computing + (num_bytes / self.bytes_per_second if self.bytes_per_second else 0.0)

    def is_gone(self, client_id: str, simulated_time: float, *key: int) -> bool:
        """Whether a client vanishes before it can report, at `simulated_time`: if it is not available then, it is gone.

        On each occasion, identified by `key`, it vanishes independently with probability `dropout_rate`.
        """
        vanishes = self._uniform("dropout", *key, client_id) < self.dropout_rate
        return vanishes or not self.is_available(client_id, simulated_time)

    def simulate(
        self,
        client_ids: Sequence[str],
        num_examples: Mapping[str, int],
        bytes_per_client: int,
        goal: int,
        round_num: int,
        start_time: float,
        attempt: int = 0,
    ) -> Cohort:
        """Simulates a round: its cohort without the arguments, clients in the order of `client_ids`.

        A client drops out with probability `dropout_rate`, anew each attempt at each round, and if it is no longer
        available when it would report. The others report after their `duration`; the round ends when `goal` of them
        have (all of them, if `over_selection` is 1), at the same moment those first in the cohort first, or else at
        the deadline, until which the server waits for a client that has dropped out as for a slow one. Without a
        deadline it ends with the last report.

        Args:
          client_ids: The cohort, distinct.
          num_examples: Examples that a client trains on in the round, by its id; not read if those take no time.
          bytes_per_client: Bytes that a client receives and sends in a round.
          goal: Number of reports that the server needs.
          round_num: The round.
          start_time: Seconds since a midnight, universal time, when the round starts.
          attempt: The attempt at it.
        """
        durations = {
            c: self.duration(c, num_examples[c] if self.seconds_per_example else 0, bytes_per_client)
            for c in client_ids
        }
        gone = {c for c in client_ids if self.is_gone(c, start_time + durations[c], round_num, attempt)}
        needed = len(client_ids) if self.over_selection == 1 else min(goal, len(client_ids))
        deadline = math.inf if self.report_deadline is None else self.report_deadline
        # sorted() is stable.
        arrivals = sorted((c for c in client_ids if c not in gone and durations[c] <= deadline), key=durations.get)
        first = arrivals[:needed]
        if len(first) < needed and self.report_deadline is not None:
            seconds = self.report_deadline
        else:
            seconds = max((durations[c] for c in first), default=0.0)
        reported = set(first)
        return Cohort(
            selected=client_ids,
            reported=[c for c in client_ids if c in reported],
            dropped=[c for c in client_ids if c in gone],
            stragglers=[c for c in client_ids if c not in reported and c not in gone],
            seconds=seconds + self.round_overhead_seconds,
        )

    def _local_hours(self, client_id, simulated_time):
        return simulated_time / _HOUR + math.floor(24 * self._uniform("time zone", client_id))

    def _uniform(self, purpose, *key):
        """A number in (0, 1), never at its ends, that depends on the seed and the key alone."""
        digest = hashlib.sha256("/".join(map(str, (purpose, self.seed, *key))).encode()).digest()
        return ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52


def build_cohort_fn(
    sample: Sampler,
    arguments_fn: Callable[[Sequence[str], int], Sequence[Any]],
    *,
    devices: Devices | None = None,
    goal: int = 1,
    limit: int | None = None,
    num_examples: Mapping[str, int] | None = None,
    bytes_per_client: int = 0,
) -> Callable[[int, int, float], Cohort]:
    """Combines a sampler and simulated devices.

    Args:
      sample: From (round, attempt) to the ids of clients that may be selected.
      arguments_fn: From (ids, round) to the process's argument for each.
      devices: The clients' devices; None: all report at once.
      goal: Number of reports that a round needs, see `Devices.simulate`.
      limit: Maximum number of available clients that are selected; None: all.
      num_examples: Examples that a client trains on per round, by its id.
      bytes_per_client: Bytes that a client receives and sends per round.

    Returns:
      From (round, attempt, simulated seconds at its start) to the cohort; depends on nothing else.
    """
    devices = devices or Devices()

    def cohort(round_num: int, attempt: int = 0, start: float = 0.0) -> Cohort:
        selected = devices.select(sample(round_num, attempt), start, limit)
        result = devices.simulate(selected, num_examples or {}, bytes_per_client, goal, round_num, start, attempt)
        return dataclasses.replace(result, arguments=arguments_fn(result.reported, round_num))

    return cohort
