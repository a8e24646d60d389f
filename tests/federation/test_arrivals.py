"""Participants that do not wait for each other: who gets which model, and which reports count."""

import contextlib
import functools
import itertools
import logging
import threading

import pytest

from tests.federation import parties
from tff_tx.core.errors import UserError
from tff_tx.federation import contents
from tff_tx.federation.arrivals import Arrivals
from tff_tx.federation.hub import Limits
from tff_tx.runtime import TooFewClientsError

NAMES = ("fast", "quick", "slow")


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), NAMES)


class Federation:
    """Participants of a client each, but `fast`, which has two; `held` is what `slow` waits for before it answers."""

    def __init__(self, kits, stack, limits=parties.LONG, buffer_size=2, max_staleness=10, concurrency=3):
        self.held, self.begun, self.answer = threading.Event(), [], {}
        self.attempts, self.in_step = itertools.count(), False
        self.most, self._active, self._lock = 0, 0, threading.Lock()
        self.hub = stack.enter_context(parties.hub(kits, NAMES, limits=limits))
        for name in NAMES:
            handle = functools.partial(self._handle, name)
            stack.enter_context(parties.serving(kits, name, self.hub.port, handle))
        self.hub.wait()
        clients = ["slow/a", "fast/a", "fast/b", "quick/a"]
        own = {"concurrency": concurrency, "buffer_size": buffer_size, "max_staleness": max_staleness}
        of, both = lambda client: client.partition("/")[0], lambda ids, number: [(ids[0], number)]
        self.arrivals = Arrivals(self.hub, of, lambda number: clients, both, **own)

    def _handle(self, name, header, payload):
        if name in self.answer:
            raise self.answer[name]
        with self._lock:
            self._active += 1
            self.most = max(self.most, self._active)
        if name == "slow":
            self.begun.append(contents.unpack(payload)[0]["client"])
            self.held.wait(100)
        elif self.in_step:
            parties.wait_until(lambda: self.hub._peers["slow"].request is None)
        with self._lock:
            self._active -= 1
        return (payload,)

    def wait_for_slow(self):
        """Releases `slow`, whose answers come before those of all that begin after it, however slow it is."""
        self.in_step = True
        self.held.set()

    def _request(self, client):
        said = {"client": client[0], "version": client[1] - 1, "attempt": next(self.attempts)}
        return contents.pack(said)

    def round(self, number):
        """The reports of a round, with the versions that the participants were sent; others that were lost or stale."""
        self.arrivals.offer(number - 1, self._request)
        buffer = self.arrivals.buffer(number)
        found = [(arrival.client_id, arrival.version) for arrival in buffer.arrivals]
        told = {client: said["version"] for client, (said, _) in self.arrivals.answers.items()}
        assert told == dict(found)  # what was trained on is what is counted
        return found, buffer


def first(federation, number, is_found):
    """The first round from a number on that is so, and its number."""
    for later in range(number, number + 10):
        found, buffer = federation.round(later)
        if is_found(found, buffer):
            return later, found, buffer
    raise AssertionError("there is none")


def test_nobody_waits_for_the_slow_and_its_report_counts_for_the_version_that_it_got(kits):
    with contextlib.ExitStack() as stack:
        federation = Federation(kits, stack, max_staleness=1000)
        for number in (1, 2, 3):
            found, _ = federation.round(number)
            assert all(client != "slow/a" for client, _ in found)
        federation.wait_for_slow()
        number, found, _ = first(federation, 4, lambda found, _: "slow/a" in dict(found))
        assert dict(found)["slow/a"] == 0
        _, found, _ = first(federation, number + 1, lambda found, _: "slow/a" in dict(found))
        assert dict(found)["slow/a"] >= 3


def test_a_report_staler_than_the_setting_is_dropped_and_its_sender_goes_on(kits):
    with contextlib.ExitStack() as stack:
        federation = Federation(kits, stack, max_staleness=1)
        for number in (1, 2, 3):
            federation.round(number)
        federation.wait_for_slow()
        number, found, _ = first(federation, 4, lambda _, buffer: "slow/a" in buffer.stale)
        # It is free again at once, and may be back with the newest version before the buffer is full.
        assert dict(found).get("slow/a", number - 1) >= number - 2
        number, found, _ = first(federation, number + 1, lambda found, _: "slow/a" in dict(found))
        assert dict(found)["slow/a"] >= number - 2


def test_who_is_gone_in_the_middle_loses_its_own_update_alone_and_comes_back(kits, caplog):
    """It gives no sign of life: its work is lost, and its answer, when it comes, counts for nothing."""
    caplog.set_level(logging.WARNING)
    with contextlib.ExitStack() as stack:
        federation = Federation(kits, stack, limits=Limits(join=100.0, phase=100.0, silence=0.4), buffer_size=4)
        parties.background(lambda: (parties.wait_until(lambda: "slow/a" in caplog.text), federation.held.set()))
        found, buffer = federation.round(1)
        assert "the work of slow/a on version 0 is lost: slow has given no sign of life" in caplog.text
        assert sorted(client for client, _ in found) == ["fast/a", "fast/b", "quick/a", "slow/a"]
        assert "slow/a" in buffer.dropped
        assert len(federation.begun) >= 2


def test_nobody_that_answers_with_errors_is_asked_without_end(kits):
    with contextlib.ExitStack() as stack:
        federation = Federation(kits, stack)
        federation.answer = dict.fromkeys(NAMES, UserError("no."))
        with pytest.raises(TooFewClientsError, match=r"0 of at least 2 clients finished \((fast|quick|slow): no[;)]"):
            federation.round(1)
        federation.answer = {"quick": UserError("no.")}
        federation.held.set()
        found, buffer = federation.round(1)
        assert len(found) == 2
        assert "quick/a" not in dict(found)
        assert len(buffer.dropped) <= 3


@pytest.mark.parametrize("concurrency", [1, 2])
def test_no_more_are_at_work_than_the_setting(kits, concurrency):
    with contextlib.ExitStack() as stack:
        federation = Federation(kits, stack, buffer_size=1, concurrency=concurrency)
        is_full = lambda: federation.begun and federation.most >= concurrency  # noqa: E731
        parties.background(lambda: (parties.wait_until(is_full), federation.held.set()))
        numbers = itertools.count(1)
        while not federation.held.is_set():
            federation.round(next(numbers))
        for _ in range(5):
            federation.round(next(numbers))
        assert federation.most == concurrency
