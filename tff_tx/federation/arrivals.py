"""FedBuff with participants as they come: whoever is free gets the newest model, and reports count as they arrive."""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from tff_tx.cohorts.buffered import Arrival, Buffer
from tff_tx.cohorts.sampling import Sampler
from tff_tx.federation import contents
from tff_tx.federation.answers import unpacked
from tff_tx.federation.envelopes import Payload
from tff_tx.federation.hub import Hub
from tff_tx.runtime.rounds import TooFewClientsError

TRAIN = "train"
"""The phase of sums in the clear."""

_MOST_ERRORS = 3
_LOOK_SECONDS = 1.0


class Arrivals:
    """A schedule of asynchronous rounds, by the clock of the participants; see `cohorts.AsyncSchedule`.

    A client starts at most once on a version of the model, unless its work is lost, and has at most one report in a
    buffer. Who is drawn next depends on the version and on who is free, and so on no clock but the participants'.

    Work is lost if its participant gives no sign of life or no answer within the hub's limits, or answers with an
    error or with what is no update: then another client is started, there or elsewhere, and the participant gets work
    again when it is back. One that has answered so three times rests until the next version.

    Args:
      hub: Where participants join.
      participant_fn: From a client's id to the name of its participant.
      sample: From the number of a drawing to all clients' ids, in random order.
      arguments_fn: From ids and a round to clients of `tasks.client_arguments`.
      concurrency: Participants at work at the same time, at most; each is at work on one client.
      buffer_size: Reports per update.
      max_staleness: Reports of clients that have missed more updates than this are dropped.

    Attributes:
      answers: Reports in the buffer that was last given, by the client's id: what was said, and the arrays.
    """

    def __init__(
        self,
        hub: Hub,
        participant_fn: Callable[[str], str],
        sample: Sampler,
        arguments_fn: Callable[[Sequence[str], int], Sequence[Any]],
        *,
        concurrency: int,
        buffer_size: int,
        max_staleness: int,
    ):
        self._hub, self._participant_fn, self._sample = hub, participant_fn, sample
        self._arguments_fn = arguments_fn
        self._concurrency, self._buffer_size, self._max_staleness = concurrency, buffer_size, max_staleness
        self._at_work: dict[str, Arrival] = {}
        self._arrived: collections.deque[tuple[Arrival, Any]] = collections.deque()
        self._errors: collections.Counter[str] = collections.Counter()
        self._reasons: dict[str, str] = {}
        self._version, self._order, self._request_fn, self._unpack = 0, [], None, contents.unpack
        self.answers: dict[str, Any] = {}

    def offer(
        self,
        version: int,
        request_fn: Callable[[Any], Payload],
        unpack: Callable[[bytes], tuple[dict, Any]] = contents.unpack,
    ) -> None:
        """Takes the newest version of the model.

        Args:
          version: Its number: of updates before it.
          request_fn: From a client's argument to the message that has it train on the model.
          unpack: From a report to what it says, and its arrays; raises an `EnvelopeError` for what is none.
        """
        self._version, self._request_fn, self._order = version, request_fn, self._sample(version + 1)
        self._unpack = unpack
        self._errors.clear()
        self._reasons.clear()

    def buffer(self, round_num: int) -> Buffer:
        """The next reports, when they have come: those of the round after the version that was offered.

        Raises:
          TooFewClientsError: If nobody works for them, and nobody who could has come within the hub's limits.
        """
        found, self.answers, last = Buffer([], [], [], 0.0), {}, time.monotonic()
        while len(found.arrivals) < self._buffer_size:
            if self._arrived:
                work, answer = self._arrived.popleft()
                if self._version - work.version > self._max_staleness:
                    found.stale.append(work.client_id)
                else:
                    found.arrivals.append(work)
                    self.answers[work.client_id] = answer
                continue
            self._hand_out({arrival.client_id for arrival in found.arrivals})
            last = time.monotonic() if self._at_work else last
            self._require_hope(len(found.arrivals), last)
            found.dropped.extend(self._receive())
        return found

    def _hand_out(self, counted):
        """Starts clients of participants that are free, but those whose reports have been counted already."""
        busy = counted | {work.client_id for work in self._at_work.values()}
        free = {name for name in self._hub.idle() if self._errors[name] < _MOST_ERRORS}
        for client_id in self._order if free else ():
            name = self._participant_fn(client_id)
            if len(self._at_work) == self._concurrency:
                return
            if name in free and client_id not in busy:
                free.remove(name)
                self._at_work[name] = Arrival(client_id, self._version)
                (client,) = self._arguments_fn([client_id], self._version + 1)
                self._hub.send(self._version + 1, TRAIN, {name: self._request_fn(client)})

    def _receive(self):
        """Takes what has arrived; gives the clients whose work is lost."""
        answers, gone = self._hub.collect(self._at_work.keys(), wait=_LOOK_SECONDS)
        found, errors = unpacked(answers, self._unpack)
        self._errors.update(errors.keys())
        self._reasons.update({**gone, **errors})
        lost = [(name, self._at_work.pop(name)) for name in (*gone, *errors)]
        self._arrived.extend((self._at_work.pop(name), found[name]) for name in answers if name in found)
        for name, work in lost:
            logging.warning(
                "the work of %s on version %d is lost: %s", work.client_id, work.version, self._reasons[name]
            )
        return [work.client_id for _, work in lost]

    def _require_hope(self, counted, last):
        if self._at_work:
            return
        refuse = all(self._errors[name] >= _MOST_ERRORS for name in self._hub.names)
        if refuse or time.monotonic() > last + self._hub.limits.join:
            reasons = [*self._reasons.values()] or ["no participant works for the others"]
            raise TooFewClientsError(counted, self._buffer_size, dict(enumerate(reasons)))
