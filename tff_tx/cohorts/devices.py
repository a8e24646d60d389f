"""Simulated reality: devices that are asleep, slow, or gone before they report.

After Bonawitz et al., "Towards Federated Learning at Scale: System Design" (2019), sections 2 and 3: the server asks
more devices than it needs, those that are idle and charging answer, and the round is over when enough have reported or
its time is. What a round will be is known before anything is trained, so only the clients that report need be.

Nothing here has a state: the same seed, round, attempt and clients give the same, in a resumed run as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from tff_tx.core.errors import UserError

AVAILABILITIES = ("always", "diurnal")

# Between day and night a fourfold difference, as Bonawitz et al. saw it (section 9).
_LEAST_AVAILABLE, _MOST_AVAILABLE = 0.2, 0.8
_NIGHT = 2.5
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class RoundSimulation:
    """How a round goes.

    Attributes:
      reported: Clients whose work counts, in the order of the cohort.
      dropped: Clients that vanished, in the order of the cohort.
      stragglers: Clients that would report after the round's end, in the order of the cohort.
      seconds: Simulated duration of the round.
    """

    reported: list[str]
    dropped: list[str]
    stragglers: list[str]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Devices:
    """The clients' devices and what the server expects of them; by default, all report at once.

    Attributes:
      dropout_rate: Probability, in [0, 1), that a client vanishes in a round.
      over_selection: How many times as many clients are asked as needed. With 1 none is asked in excess, and the round
        waits for its whole cohort.
      report_deadline: Seconds a client has to report; None: any number.
      seconds_per_example: What the median device takes to train on an example.
      speed_spread: Standard deviation, between clients, of the logarithm of that time: a client takes
        exp(speed_spread * z) times the median, its z drawn once from a standard normal distribution.
      round_overhead_seconds: What the server takes for a round besides; not part of a client's deadline.
      bytes_per_second: A device's connection; None: it takes no time.
      availability: "always", or "diurnal": see `probability`.
      seed: Decides everything random.
    """

    dropout_rate: float = 0.0
    over_selection: float = 1.0
    report_deadline: float | None = None
    seconds_per_example: float = 0.0
    speed_spread: float = 0.0
    round_overhead_seconds: float = 0.0
    bytes_per_second: float | None = None
    availability: str = "always"
    seed: int = 0

    def __post_init__(self):
        """Refuses values that no device has.

        Raises:
          UserError: With the first of them.
        """
        if not 0 <= self.dropout_rate < 1:
            raise UserError(f"--dropout_rate is a probability in [0, 1) and is {self.dropout_rate}: give 0.1, say.")
        if not 1 <= self.over_selection < math.inf:
            raise UserError(
                f"--over_selection={self.over_selection} would ask fewer clients than are needed: give 1 or more, "
                "as 1.3."
            )
        for flag, value in (
            ("report_deadline", self.report_deadline),
            ("device_bytes_per_second", self.bytes_per_second),
        ):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{flag} must be above 0 and is {value}: raise it or leave it out.")
        for flag, value in (
            ("seconds_per_example", self.seconds_per_example),
            ("round_overhead_seconds", self.round_overhead_seconds),
        ):
            if not 0 <= value < math.inf:
                raise UserError(f"--{flag} must be 0 or more and is {value}: raise it or leave it out.")
        if not 0 <= self.speed_spread <= 10:
            raise UserError(
                f"--device_speed_spread must be between 0 and 10 and is {self.speed_spread}: give 0.5, say, with which "
                "one device in forty takes more than 2.7 times as long as the median."
            )
        if self.availability not in AVAILABILITIES:
            raise UserError(
                f"--availability={self.availability} is unknown; choose one of {', '.join(AVAILABILITIES)}."
            )

    def asked(self, goal: int) -> int:
        """How many clients are asked, so that `goal` report."""
        # Rounding first: 100 * 1.1 is a hair above 110.
        return math.ceil(round(goal * self.over_selection, 6))

    def candidates(self, goal: int) -> int:
        """How many clients to draw, so that `select` can be expected to find `asked(goal)` at any hour."""
        if self.availability == "always":
            return self.asked(goal)
        return math.ceil(round(self.asked(goal) / _LEAST_AVAILABLE, 6))

    def select(self, candidates: Iterable[str], simulated_time: float, limit: int | None = None) -> list[str]:
        """The first `limit` of the candidates that are available at a time; all of those by default.

        Args:
          candidates: Client ids; in random order if there is a limit, else the same are always preferred.
          simulated_time: Seconds since a midnight, universal time.
          limit: How many to ask at most.
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
        """Whether a client is available, with `probability`; it is without a break, from an evening to a morning."""
        if self.availability == "always":
            return True
        # One draw from one afternoon to the next: the curve rises above it once and falls below it once.
        day = math.floor((self._local_hours(client_id, simulated_time) - _NIGHT - 12) / 24)
        return self._uniform("available", day, client_id) < self.probability(client_id, simulated_time)

    def duration(self, client_id: str, num_examples: int, num_bytes: int) -> float:
        """Seconds from being asked to reporting.

        Args:
          client_id: The client.
          num_examples: Examples that it trains on.
          num_bytes: Bytes that it receives and sends.
        """
        z = statistics.NormalDist().inv_cdf(self._uniform("speed", client_id))
        computing = num_examples * self.seconds_per_example * math.exp(self.speed_spread * z)
        return computing + (num_bytes / self.bytes_per_second if self.bytes_per_second else 0.0)

    def is_gone(self, client_id: str, simulated_time: float, *key: int) -> bool:
        """Whether a client vanishes before it can report.

        Args:
          client_id: The client.
          simulated_time: When it would report: if it is not available then, it is gone.
          *key: Which occasion it is; on each, it vanishes independently with probability `dropout_rate`.
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
    ) -> RoundSimulation:
        """How a round goes.

        A client drops out with probability `dropout_rate`, anew each attempt at each round, and if it is no longer
        available when it would report. The others report after their `duration`; the round ends when `goal` of them
        have (all of them, if `over_selection` is 1), at the same moment those first in the cohort first, or else at
        the deadline, until which the server waits for a client that has dropped out as for a slow one. Without a
        deadline it ends with the last report.

        Args:
          client_ids: The cohort, distinct.
          num_examples: By client id, how many examples it trains on in the round; not read if those take no time.
          bytes_per_client: Bytes that a client receives and sends in a round.
          goal: How many reports the server needs.
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
        return RoundSimulation(
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
