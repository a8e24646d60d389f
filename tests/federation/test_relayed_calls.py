"""Calls through a relay: what it loses, repeats or changes costs time and no answer."""

import contextlib
import os
import threading
import time
from multiprocessing.connection import Client

import pytest

from tests.federation import parties
from tff_tx.core import certificates
from tff_tx.core.errors import UserError
from tff_tx.federation.envelopes import CHUNK_BYTES
from tff_tx.federation.messages_pb2 import Exchange
from tff_tx.federation.relayed_calls import Relay

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
def federation(kits, place, names=NAMES, **more):
    """A hub and participants that echo, with a relay between them."""
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(parties.hub(kits, names, relay=str(place / "hub.sock")))
        hub.links = []
        for name in names:
            relay = stack.enter_context(contextlib.closing(Relay(str(place / f"{name}.sock"))))
            own = {"connect": relay.connect}
            hub.links.append(stack.enter_context(parties.serving(kits, name, 0, parties.echo, **own)))
        hub.between = stack.enter_context(contextlib.closing(Between(place, names, **more)))
        hub.wait()
        yield hub


def test_messages_longer_than_an_exchange_come_through(kits, tmp_path):
    blob = os.urandom(17 * CHUNK_BYTES + 5)
    with federation(kits, tmp_path) as hub:
        for number in range(2):
            asked = {name: (name.encode(), bytes([number]), blob) for name in NAMES}
            answers, failures = hub.ask(number + 1, "echo", asked)
            assert not failures
            assert answers == {name: b"".join(asked[name]) for name in NAMES}
        longest = max(map(len, hub.between.seen))
        assert longest < 17.5 * CHUNK_BYTES


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
        answers, failures = hub.ask(1, "echo", {"north": (b"asked " * 50,)}, seconds=15)
    assert harmed
    assert not failures
    assert answers == {"north": b"asked " * 50}


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
