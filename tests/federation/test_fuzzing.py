"""Messages that are none, or were changed, at either end: sentences, bounded memory, and nobody is stuck."""

import concurrent.futures
import os
import random

import grpc
import psutil
import pytest

from tests.federation import parties
from tff_tx.federation import contents, link, service, wire
from tff_tx.federation.envelopes import Session
from tff_tx.federation.messages_pb2 import Chunk, Header

FUZZED = int(os.environ.get("TFF_TX_FUZZED", "100"))
"""Messages to a participant: `TFF_TX_FUZZED=10000` for more."""


@pytest.mark.parametrize("rounds", [340, pytest.param(3400, marks=pytest.mark.slow)])
def test_noise_is_rejected_in_a_sentence_and_bounded_memory(kits, hub, caplog, rounds):
    """A thousand or ten thousand messages of random bytes, and of random fields; then the hub serves as before."""
    north, drawn = parties.Raw(kits, "north", hub.port), random.Random(2)
    session = north.session()
    before = psutil.Process().memory_info().rss
    for number in range(rounds):
        noise = drawn.randbytes(drawn.choice([0, 1, 50, 3000]))
        signed = next(iter(session.chunks(drawn.randrange(9), "train", (noise,))))
        signed.envelope.header = Header(major=drawn.randrange(2), session=noise[:16]).SerializeToString()
        for call in (north.join, north.receive, lambda data: north.send([data])):
            answer = call(drawn.choice([noise, signed.SerializeToString()]))
            assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT, (number, answer)
    assert psutil.Process().memory_info().rss - before < 100e6
    assert not caplog.records
    with parties.serving(kits, "north", hub.port, parties.echo):
        hub.wait(["north"])
        assert hub.ask(1, "echo", {"north": ()})[0]


def test_a_participant_outlives_a_coordinator_that_talks_nonsense(kits, monkeypatch):
    """Answers of random bytes, and of chunks with random fields, to who joins."""
    monkeypatch.setattr(link, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(link, "_LONGEST_PAUSE", 0.0)
    drawn, count = random.Random(4), iter(range(10**6))
    north = parties.Raw(kits, "coordinator", 1)

    def nonsense(*unused):
        next(count)
        noise = drawn.randbytes(drawn.choice([0, 1, 50, 3000]))
        mine = Session(north.identity, north.authority, b"", noise[:16])
        signed = next(iter(mine.chunks(0, "join", (noise,))))
        signed.envelope.certificate = drawn.choice([noise, north.identity.certificate])
        signed.data = drawn.choice([noise, b"".join(contents.pack({"nonce": 1, "welcome": {}}))])
        return drawn.choice([noise, signed.SerializeToString()])

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    kinds = {"Join": grpc.unary_unary_rpc_method_handler, "Send": grpc.stream_unary_rpc_method_handler}
    handlers = {name: kind(nonsense) for name, kind in kinds.items()}
    handlers["Receive"] = grpc.unary_stream_rpc_method_handler(lambda *call: iter([nonsense()]))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, handlers),))
    port = server.add_secure_port("localhost:0", wire.server_credentials(os.path.join(kits, "coordinator")))
    server.start()
    with parties.serving(kits, "north", port, parties.echo) as served:
        parties.wait_until(lambda: next(count) > FUZZED or served.error is not None, 60 + FUZZED / 5)
        assert served.error is None
    server.stop(None)


def test_a_participant_outlives_messages_that_are_changed_where_tls_ends(kits, monkeypatch, caplog):
    """Those of a coordinator that it has joined; the first that is whole is answered. No traceback, no more memory."""
    monkeypatch.setattr(link, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(link, "_LONGEST_PAUSE", 0.0)
    drawn, sent, receive = random.Random(8), [0], service.Service.receive

    def changed(self, caller, data):
        for chunk in receive(self, caller, data):
            if chunk.HasField("envelope") and sent[0] < FUZZED:
                sent[0] += 1
                chunk = _changed(chunk, drawn)
            yield chunk

    monkeypatch.setattr(service.Service, "receive", changed)
    with (
        parties.hub(kits, ["north"], limits=parties.LONG) as hub,
        parties.serving(kits, "north", hub.port, parties.echo),
    ):
        hub.wait()
        before = psutil.Process().memory_info().rss
        answers, failures = hub.ask(1, "echo", {"north": parties.said("x" * 100)}, seconds=60 + FUZZED / 5)
        assert (contents.unpack(answers["north"])[0], failures) == ({"said": "x" * 100}, {})
        assert psutil.Process().memory_info().rss - before < 100e6  # with what the test keeps of the log
    assert sent == [FUZZED]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "Traceback" not in caplog.text
    assert max(len(message) for message in caplog.messages) < 500


def _changed(chunk, drawn):
    """A chunk that differs in some bytes of one of its parts."""
    found = Chunk.FromString(chunk.SerializeToString())
    part, name = drawn.choice([(found, "data"), (found.envelope, "header"), (found.envelope, "signature")])
    value = bytearray(getattr(part, name))
    for _ in range(drawn.choice([1, 3, 50])):
        value[drawn.randrange(len(value))] ^= 1 << drawn.randrange(8)
    if drawn.random() < 0.3:
        value = value[: drawn.randrange(len(value))] + drawn.randbytes(drawn.choice([1, 3000]))
    setattr(part, name, bytes(value))
    return found
