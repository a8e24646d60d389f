"""Asynchronous rounds (FedBuff): the schedule of clients that do not wait for each other.

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation" (2022), https://arxiv.org/abs/2106.06639,
Algorithm 1: a fixed number of clients is always at work, each on the model that was current when it started; after
every K arrivals the server makes an update, which is a new version of the model and here a round of the run.

A client's duration does not depend on what it learns, so the schedule is known before anything is trained. It is
computed from its beginning, as far as it is needed: a resumed run has the same one.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, Protocol

from tff_tx.cohorts import log as cohort_log
from tff_tx.cohorts.devices import Cohort, Devices
from tff_tx.cohorts.sampling import Sampler
from tff_tx.core.errors import UserError, setting

_SECONDS_TO_NEXT_LOOK = 60.0
_MOST_LOOKS = 7 * 24 * 60  # a week: longer than every night


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A client's report.

    Attributes:
      client_id: The client.
      version: Version of the model it started from: 0 for the initial one, r for that after round r.
    """

    client_id: str
    version: int


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Reports between two updates of the server.

    Attributes:
      arrivals: Reports that the update aggregates, in order of arrival; at most one per client.
      dropped: Clients that vanished.
      stale: Clients whose reports exceeded the maximum staleness.
      seconds: Simulated seconds since the previous update.
    """

    arrivals: list[Arrival]
    dropped: list[str]
    stale: list[str]
    seconds: float


@dataclasses.dataclass(order=True)
class _Work:
    """A client at work; sorted by when it ends, at the same moment by who started first."""

    end: float
    number: int
    client_id: str = dataclasses.field(compare=False)
    version: int = dataclasses.field(compare=False)
    gone: bool = dataclasses.field(compare=False)


class AsyncSchedule:
    """Simulates clients that start and report one by one.

    As soon as a client reports or should have reported (a dropout is not noticed earlier), the server starts another,
    drawn from those that are available, not at work and have no report in the buffer. Reports of the same moment arrive
    before any client starts. If no client can be started, fewer are at work until the next report.

    With a concurrency equal to the buffer size and equally fast clients, this is the synchronous schedule, with the
    same cohorts.

    Args:
      sample: From the number of a drawing, counted from 1, to distinct clients in random order: `concurrency` +
        `buffer_size` - 1 of them, so that an idle client is found whenever there is one.
      devices: The clients' devices. Over-selection, deadline and the server's overhead have no effect.
      concurrency: Clients at work at the same time.
      buffer_size: Reports per update (K in the paper).
      max_staleness: Reports of clients that have missed more updates than this are dropped.
      num_examples: Examples that a client trains on, by its id.
      bytes_per_client: Bytes that a client receives and sends.
    """

    def __init__(
        self,
        sample: Sampler,
        devices: Devices,
        *,
        concurrency: int,
        buffer_size: int,
        max_staleness: int,
        num_examples: Mapping[str, int] | None = None,
        bytes_per_client: int = 0,
    ):
        self._sample, self._devices = sample, devices
        self._concurrency, self._buffer_size, self._max_staleness = concurrency, buffer_size, max_staleness
        self._num_examples, self._bytes_per_client = num_examples, bytes_per_client
        self._known: list[Buffer] = []
        self._ahead = self._buffers()

    def buffer(self, round_num: int) -> Buffer:
        """Reports of the update of a round, counted from 1.

        Raises:
          UserError: If no client can be started for a week.
        """
        while len(self._known) < round_num:
            self._known.append(next(self._ahead))
        return self._known[round_num - 1]

    def _buffers(self) -> Iterator[Buffer]:
        now = updated = 0.0
        version = drawing = started = looks = 0
        at_work: list[_Work] = []
        buffer = Buffer([], [], [], 0.0)
        while True:
            idle = self._concurrency - len(at_work)
            if idle:
                drawing += 1
                busy = {work.client_id for work in at_work} | {arrival.client_id for arrival in buffer.arrivals}
                free = [c for c in self._devices.select(self._sample(drawing), now) if c not in busy]
                for client_id in free[:idle]:
                    started += 1
                    heapq.heappush(at_work, self._start(client_id, now, version, started, drawing))
            if not at_work:
                now, looks = now + _SECONDS_TO_NEXT_LOOK, looks + 1
                if looks == _MOST_LOOKS:
                    raise UserError(
                        f"{setting('cohort.buffer_size')}={self._buffer_size} reports never arrive, as no more clients "
                        f"can be started: lower it, or raise {setting('data.num_clients')}."
                    )
                continue
            now, looks = at_work[0].end, 0
            while at_work and at_work[0].end == now:
                work = heapq.heappop(at_work)
                if work.gone:
                    buffer.dropped.append(work.client_id)
                elif version - work.version > self._max_staleness:
                    buffer.stale.append(work.client_id)
                else:
                    buffer.arrivals.append(Arrival(work.client_id, work.version))
                if len(buffer.arrivals) == self._buffer_size:
                    yield dataclasses.replace(buffer, seconds=now - updated)
                    updated, version = now, version + 1
                    buffer = Buffer([], [], [], 0.0)

    def _start(self, client_id, now, version, number, drawing) -> _Work:
        examples = self._num_examples[client_id] if self._devices.seconds_per_example else 0
        end = now + self._devices.duration(client_id, examples, self._bytes_per_client)
        return _Work(end, number, client_id, version, self._devices.is_gone(client_id, end, drawing, 0))


class RecordedSchedule:
    """The buffers of an earlier run, as its `cohorts.jsonl` has them: reports that counted, in their order of arrival.

    Args:
      path: The record; `sampling.fixed` has checked its clients and that it has all rounds.
      max_staleness: Of reports.

    Raises:
      UserError: If rounds are not asynchronous, or reports staler than that.
    """

    def __init__(self, path: str, max_staleness: int):
        self._buffers = {}
        for where, record in cohort_log.records(path, f"{setting('cohort.cohorts')}={path}"):
            number, reported, versions = (record.get(name) for name in ("round_num", "reported", "versions"))
            whole = isinstance(versions, list) and all(type(version) is int for version in versions)
            if not whole or not isinstance(reported, list) or len(versions) != len(reported):
                raise UserError(
                    f"{where}: has no version of the model for each report, so that no FedBuff is replayed: name the "
                    f"{cohort_log.LOG} of an asynchronous run, or remove {setting('cohort.buffer_size')}."
                )
            if not all(0 <= number - 1 - version <= max_staleness for version in versions):
                raise UserError(
                    f"{where}: a report is staler than {setting('cohort.max_staleness')}={max_staleness}: raise it to "
                    "that of the recorded run."
                )
            others = (list(record.get(name, ())) for name in ("dropped", "stragglers"))
            self._buffers[number] = Buffer([*map(Arrival, reported, versions)], *others, record.get("seconds", 0.0))

    def buffer(self, round_num: int) -> Buffer:
        """Reports of the update of a round, counted from 1."""
        return self._buffers[round_num]


class HasBuffers(Protocol):
    """A schedule of asynchronous rounds: simulated, recorded, or of participants as they come."""

    def buffer(self, round_num: int) -> Buffer:
        """Reports of the update of a round, counted from 1."""


def build_cohort_fn(
    schedule: HasBuffers, arguments_fn: Callable[[Sequence[str], int], Sequence[Any]]
) -> Callable[[int, int, float], Cohort]:
    """The rounds of a schedule: a function from (round, attempt, simulated seconds, which are not read) to the cohort.

    Its arguments are pairs of the process's argument, of `arguments_fn` from (ids, the round in which the client
    started; it starts in each at most once), and the staleness: number of updates that the client has missed. A round
    has one attempt: the next reports belong to the next round, and a schedule that depended on the outcome of clients'
    training would be another in a resumed run.
    """

    def cohort(round_num: int, attempt: int = 0, start: float = 0.0) -> Cohort:
        if attempt:
            raise UserError(
                f"round {round_num} has no other reports than those in its buffer, and too many of them failed: lower "
                f"{setting('cohort.min_clients')}, or {setting('client.learning_rate')} if updates are not finite."
            )
        buffer = schedule.buffer(round_num)
        reported = [arrival.client_id for arrival in buffer.arrivals]
        arguments = [
            (arguments_fn([arrival.client_id], arrival.version + 1)[0], round_num - 1 - arrival.version)
            for arrival in buffer.arrivals
        ]
        return Cohort(
            # A client that vanished may have been started again and reported.
            selected=list(dict.fromkeys([*reported, *buffer.dropped, *buffer.stale])),
            reported=reported,
            arguments=arguments,
            dropped=buffer.dropped,
            stragglers=buffer.stale,
            seconds=buffer.seconds,
            versions=[arrival.version for arrival in buffer.arrivals],
        )

    return cohort
