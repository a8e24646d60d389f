"""Calls through a relay: what it loses, repeats or changes costs time and no answer."""

import contextlib
import os
import threading
import time
from multiprocessing.connection import Client

import numpy as np
import pytest

from tests.federation import parties, players
from tff_tx.core import certificates
from tff_tx.core.errors import UserError
from tff_tx.federation import relayed_calls
from tff_tx.federation.calls import CallError
from tff_tx.federation.envelopes import CHUNK_BYTES
from tff_tx.federation.messages_pb2 import Chunk, Exchange, Frame
from tff_tx.federation.relayed_calls import Relay
from tff_tx.federation.secure_rounds import PHASES
from tff_tx.federation.secure_sums import packing
from tff_tx.federation.secure_sums.modular import Ring

NAMES = ("north", "south")


class Between:
    """A relay in threads: `change` gets each reply of a node with its number, and gives what becomes of it."""

    def __init__(self, place, names=NAMES, change=lambda number, reply: ("reply", reply)):
        self._place, self._change, self._ended, self.seen = place, change, threading.Event(), []
        self._told = {name: ("idle", b"") for name in names}
        parties.background(self._run)

    def _run(self):
        with Client(str(self._place / "hub.sock"), "AF_UNIX") as hub, contextlib.suppress(OSError, EOFError):
            while not self._ended.is_set():
                for name in [*self._told]:
                    state, reply = self._told.pop(name)
                    hub.send_bytes(f"{name} {state}".encode())
                    hub.send_bytes(reply)
                    if exchange := hub.recv_bytes():
                        parties.background(lambda name=name, exchange=exchange: self._hand(name, exchange))
                    else:
                        self._told[name] = "idle", b""
                time.sleep(0.01)

    def _hand(self, name, exchange):
        try:
            with Client(str(self._place / f"{name}.sock"), "AF_UNIX") as party:
                party.send_bytes(exchange)
                reply = party.recv_bytes()
        except (OSError, EOFError):
            reply = b""
        self.seen += [exchange, reply]
        self._told[name] = self._change(len(self.seen) // 2, reply)

    def close(self):
        self._ended.set()


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), NAMES)


@contextlib.contextmanager
def federation(kits, place, names=NAMES, handlers=None, **more):
    """A hub and participants that echo, or handle, with a relay between them."""
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(parties.hub(kits, names, relay=str(place / "hub.sock")))
        for name in names:
            relay = stack.enter_context(contextlib.closing(Relay(str(place / f"{name}.sock"))))
            handle = (handlers or {}).get(name, parties.echo)
            stack.enter_context(parties.serving(kits, name, 0, handle, connect=relay.connect))
        hub.between = stack.enter_context(contextlib.closing(Between(place, names, **more)))
        hub.wait()
        yield hub


def test_messages_longer_than_an_exchange_come_through(kits, tmp_path, monkeypatch):
    monkeypatch.setattr(relayed_calls, "_MOST_BYTES", 2 * CHUNK_BYTES)
    blob = os.urandom(5 * CHUNK_BYTES + 5)
    with federation(kits, tmp_path) as hub:
        for number in range(2):
            asked = {name: (name.encode(), bytes([number]), blob) for name in NAMES}
            answers, failures = hub.ask(number + 1, "echo", asked)
            assert not failures
            assert answers == {name: b"".join(asked[name]) for name in NAMES}
        longest = max(map(len, hub.between.seen))
        assert 2 * CHUNK_BYTES < longest < 3.5 * CHUNK_BYTES


def _lost(reply):
    return "lost", b""


def _flipped(reply):
    at = len(reply) * 2 // 3  # in a signature, a certificate or data
    return "reply", reply[:at] + bytes([reply[at] ^ 1]) + reply[at + 1 :]


def _of_another_connection(reply):
    return "reply", Exchange(connection=b"another", number=1).SerializeToString()


@pytest.mark.parametrize("harm", [_lost, _flipped, _of_another_connection])
def test_what_is_lost_or_changed_is_sent_again(kits, tmp_path, harm):
    """The reply that is harmed has the participant's answer."""
    harmed = []

    def change(number, reply):
        if b"asked" in reply and not harmed:
            harmed.append(number)
            return harm(reply)
        return "reply", reply

    with federation(kits, tmp_path, ("north",), change=change) as hub:
        answers, failures = hub.ask(1, "echo", {"north": (b"asked " * 50,)})
    assert harmed
    assert not failures
    assert answers == {"north": b"asked " * 50}


def test_a_secure_sum_passes_masked(tmp_path):
    """The sum is that of plain arithmetic, and the relay has seen no input."""
    kits = parties.make_kits(tmp_path / "certs", players.NAMES)
    handlers = {name: players.Player(kits, name) for name in players.NAMES}
    with federation(kits, tmp_path, players.NAMES, handlers) as hub:
        found, failures, phases = players.run(hub)
        seen = b"".join(hub.between.seen)
    assert not failures
    assert len(phases) == len(PHASES)
    players.check_sum(found, players.NAMES)
    assert (b"m" * 32).hex().encode() in seen  # what is said in the clear
    for name in players.NAMES:
        leaf = players.leaves(name)[1]
        assert leaf.tobytes() not in seen
        assert packing.pack(leaf.astype(np.uint32), Ring(players.LAYOUT.moduli[1])) not in seen


def test_frames_that_nobody_reads_are_dropped_and_calls_are_few(kits, tmp_path):
    """A node that sends ever more neither fills the coordinator's memory nor its threads."""
    path = str(tmp_path / "hub.sock")
    with parties.hub(kits, NAMES, relay=path), Client(path, "AF_UNIX") as hub:

        def relay(state, reply=b""):
            while True:
                hub.send_bytes(f"7 {state}".encode())
                hub.send_bytes(reply)
                if found := hub.recv_bytes():
                    return Exchange.FromString(found)
                state, reply = "idle", b""

        asked, before = relay("idle"), threading.active_count()
        for method in ("Send", "Receive", "Join", "nonsense"):
            frames = [Frame(call=call, method=method, data=b"x") for call in range(100)]
            answer = Exchange(connection=asked.connection, number=asked.number, frames=frames)
            asked = relay("reply", answer.SerializeToString())
            assert threading.active_count() <= before + 8
        hub.send_bytes(b"nonsense")
        with pytest.raises(EOFError):
            hub.recv_bytes()


def test_who_is_not_on_the_list_is_told_so_and_opens_no_session(kits, tmp_path, caplog):
    certificates.make_node_certificate(str(tmp_path / "others"), "north", role="participant")
    with parties.hub(kits, NAMES, relay=str(tmp_path / "hub.sock")):
        relay = Relay(str(tmp_path / "north.sock"))
        between = Between(tmp_path, ("north",))
        with parties.serving(tmp_path / "others", "north", 0, parties.echo, connect=relay.connect):
            parties.wait_until(lambda: any("is not among the participants" in told for told in caplog.messages))
        between.close()
        relay.close()


def test_a_socket_has_one_process(tmp_path):
    path = str(tmp_path / "relay.sock")
    with contextlib.closing(Relay(path)), pytest.raises(UserError, match="relay.sock cannot be a socket .*another"):
        Relay(path)
    Relay(path).close()
    with pytest.raises(UserError, match="cannot be a socket"):
        Relay(str(tmp_path / ("x" * 200)))


def test_calls_end_with_their_connection_and_no_other_error_counts_as_that(tmp_path):
    def chunks():
        yield Chunk()
        raise AttributeError("a mistake of the caller")

    path, found = str(tmp_path / "north.sock"), []

    def call():
        with pytest.raises(CallError, match="the relay has lost the coordinator, or its answer"):
            next(relay.receive(Chunk()))
        found.append("ended")

    with contextlib.closing(Relay(path)) as relay:
        with Client(path, "AF_UNIX") as party:
            party.send_bytes(Exchange(connection=b"mark", number=1).SerializeToString())
            with pytest.raises(AttributeError, match="a mistake of the caller"):
                relay.send(chunks())
            assert party.recv_bytes()
        parties.background(call)
        parties.wait_until(lambda: relay._connection.calls)
        relay.close()
        parties.wait_until(lambda: found)


def test_a_participant_that_is_still_saying_something_answers_when_more_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(relayed_calls, "_LINGER_SECONDS", 60.0)

    def exchange(number, more):
        with Client(path, "AF_UNIX") as party:
            party.send_bytes(Exchange(connection=b"mark", number=number, more=more).SerializeToString())
            return Exchange.FromString(party.recv_bytes())

    def call():
        with contextlib.suppress(CallError):
            next(relay.receive(Chunk()))

    path = str(tmp_path / "north.sock")
    with contextlib.closing(Relay(path)) as relay:
        exchange(1, True)
        parties.background(call)
        parties.wait_until(lambda: len(relay._connection._frames) == 2)
        assert exchange(2, True) == Exchange(connection=b"mark", number=2)  # it is lost if nobody answers
        monkeypatch.setattr(relayed_calls, "_LINGER_SECONDS", 0.0)
        assert [frame.method for frame in exchange(3, True).frames] == ["Receive", ""]
