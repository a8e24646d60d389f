"""The transport: who may call, what is rejected, what survives an outage."""

import hashlib
import os
import pathlib
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import psutil
import pytest

from tests.federation import parties
from tff_tx.config import flag_of
from tff_tx.core import certificates
from tff_tx.core.errors import UserError
from tff_tx.federation import contents, grpc_calls, peers, wire
from tff_tx.federation.envelopes import CHUNK_BYTES, EnvelopeError, Session
from tff_tx.federation.hub import Limits
from tff_tx.federation.messages_pb2 import Chunk, Envelope, Header
from tff_tx.federation.secure_sums.identities import digest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = parties.PAIR


def test_the_generated_module_is_that_of_the_description(tmp_path):
    command = ["-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", "tff_tx/federation/messages.proto"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    name = "tff_tx/federation/messages_pb2.py"
    assert (tmp_path / name).read_text() == (ROOT / name).read_text()


def test_each_is_asked_and_answers_in_chunks(kits, hub):
    blob = os.urandom(2 * CHUNK_BYTES + 17)
    with parties.serving(kits, "north", hub.port, parties.echo), parties.serving(kits, "south", hub.port, parties.echo):
        hub.wait()
        asked = {name: (name.encode(), blob) for name in NAMES}
        answers, failures = hub.ask(1, "echo", asked)
    assert not failures
    assert answers == {name: name.encode() + blob for name in NAMES}


def test_who_is_late_is_left_out_and_may_come_back(kits, monkeypatch):
    release, clock = threading.Event(), parties.Clock(monkeypatch)

    def late(header, payload):
        release.wait(100)
        return (payload,)

    with (
        parties.hub(kits, NAMES) as hub,
        parties.serving(kits, "north", hub.port, parties.echo),
        parties.serving(kits, "south", hub.port, late),
    ):
        hub.wait()
        with clock.passing(hub, "south"):
            answers, failures = hub.ask(1, "echo", dict.fromkeys(NAMES, parties.said("one")))
        assert list(answers) == ["north"]
        assert failures == {"south": "south has not answered within 100 s"}
        release.set()  # its answer to the first comes now, and counts as no answer to the second attempt
        answers, failures = hub.ask(1, "echo", dict.fromkeys(NAMES, parties.said("two")))
        assert {contents.unpack(a)[0]["said"] for a in answers.values()} == {"two"}
        assert not failures


@pytest.mark.slow
def test_a_message_of_more_than_2_gb_comes_through(kits):
    """More than a message of protobuf may have, or a number of 32 bits can say."""
    if psutil.virtual_memory().available < 8e9:
        pytest.skip("Both ends together need 5 GB of memory.")
    piece, number, expected = os.urandom(1 << 26), 33, hashlib.sha256()
    for _ in range(number):
        expected.update(piece)
    with (
        parties.hub(kits, ["north"], limits=Limits(20.0, 500.0, 60.0)) as hub,
        parties.serving(kits, "north", hub.port, lambda header, payload: (hashlib.sha256(payload).digest(),)),
    ):
        hub.wait()
        answers, failures = hub.ask(1, "echo", {"north": (piece,) * number})
    assert (answers, failures) == ({"north": expected.digest()}, {})


def test_a_message_wakes_the_call_of_its_participant_alone():
    """And an answer none: with many participants, each would wake the calls of all."""
    found, woken, waits = peers.Peers(NAMES), {}, threading.Semaphore(0)

    def wait(name):
        with found.changed:
            waits.release()  # nobody else has the lock until it waits
            woken[name] = found[name].asked.wait(100.0 if name == "south" else 0.5)

    waiting = [parties.background(lambda name=name: wait(name)) for name in NAMES]
    for _ in NAMES:
        waits.acquire()
    found.take(found["north"], Header(phase="beat"), b"")
    with found.changed:
        found["south"].ask(peers.Request(1, "echo", (), b""))
    for thread in waiting:
        thread.join()
    assert woken == {"south": True, "north": False}


def test_who_never_joins_is_named(kits):
    with parties.hub(kits, NAMES, limits=Limits(0.3, 100.0, 0.3)) as hub:
        with pytest.raises(UserError, match="north, south did not join within 0 s: start"):
            hub.wait()
        assert hub.ask(1, "echo", {"north": ()})[1] == {"north": "north has given no sign of life for 0 s"}


def test_who_refuses_says_why(kits, caplog):
    def refuse(welcome):
        raise UserError("this participant's policy has most_rounds = 1.")

    with (
        parties.hub(kits, ["north"], limits=Limits(1.0)) as hub,
        parties.serving(kits, "north", hub.port, parties.echo, on_plan=refuse) as link,
    ):
        parties.wait_until(lambda: caplog.records)  # as it arrives
        assert caplog.messages == ["north does not take part: this participant's policy has most_rounds = 1."]
        with pytest.raises(UserError, match="north: this participant's policy has most_rounds = 1"):
            hub.wait()
        assert "most_rounds" in str(link.error)


def test_an_answer_that_is_lost_is_sent_again_and_not_made_again(kits, hub):
    calls, proxy = [], parties.Proxy(hub.port)

    def handle(header, payload):
        calls.append(header.phase)
        proxy.cut()  # as the answer is ready, the network is gone
        return (payload,)

    try:
        with parties.serving(kits, "north", proxy.port, handle):
            hub.wait(["north"])
            answers, failures = hub.ask(1, "echo", {"north": parties.said("it")})
    finally:
        proxy.close()
    assert not failures
    assert contents.unpack(answers["north"])[0] == {"said": "it"}
    assert calls == ["echo"]


def test_a_participant_finds_the_coordinator_that_starts_again(kits):
    with parties.hub(kits, ["north"]) as first:
        port = first.port
        with parties.serving(kits, "north", port, parties.echo):
            first.wait()
            first.close()
            listed = os.path.join(kits, certificates.PARTICIPANTS)
            options = {"run": parties.RUN, "welcome": {"plan": parties.RUN}, "limits": parties.LONG}
            again = type(first)(f"localhost:{port}", os.path.join(kits, "coordinator"), listed, ["north"], **options)
            with again:
                again.wait()
                assert again.ask(7, "echo", {"north": parties.said("x")})[0]


def test_a_participant_that_is_stopped_does_not_say_that_it_tries_again(kits, caplog):
    begun, release = threading.Event(), threading.Event()

    def handle(header, payload):
        begun.set()
        release.wait(100)
        return (payload,)

    with parties.hub(kits, ["north"]) as hub, parties.serving(kits, "north", hub.port, handle) as link:
        hub.wait()
        hub.send(1, "echo", {"north": parties.said("it")})
        begun.wait(100)
    release.set()  # whom it answers is gone
    link.thread.join(100)
    assert "trying again" not in caplog.text


@pytest.mark.slow
def test_a_slow_link_is_no_silence_and_shows_nothing(kits, monkeypatch, rng):
    """A model of 24 chunks takes 6 s each way, and training 4 s, with 3 s of silence allowed; somebody listens."""
    monkeypatch.setattr(grpc_calls._Calls, "beat_seconds", 0.5)
    model = [rng.standard_normal(1 << 20, np.float32) for _ in range(6)]
    payload, phases = contents.pack({}, contents.encode(model)), []

    def answer(header, received):
        time.sleep(4.0)
        return (received,)

    with parties.hub(kits, ["north"], limits=Limits(100.0, 90.0, 3.0)) as hub:
        take = hub._peers.take
        monkeypatch.setattr(
            hub._peers, "take", lambda peer, header, said: [phases.append(header.phase), take(peer, header, said)]
        )
        proxy = parties.Proxy(hub.port, bytes_per_second=4 << 20)
        with parties.serving(kits, "north", proxy.port, answer):
            hub.wait()
            started = time.monotonic()
            answers, failures = hub.ask(1, "echo", {"north": payload})
        proxy.close()
    assert not failures
    assert time.monotonic() - started > 15
    for ours, theirs in zip(contents.unpack(answers["north"])[1], model):
        np.testing.assert_array_equal(ours, theirs)
    assert phases.count("beat") > 10
    sent = b"".join(payload)
    assert len(proxy.seen) > 2 * len(sent) > 40 * CHUNK_BYTES
    assert not any(sent[start : start + 16] in proxy.seen for start in range(0, len(sent), CHUNK_BYTES))
    assert b"echo" not in proxy.seen


def test_only_participants_of_the_federation_are_served(kits, hub, tmp_path):
    parties.make_kits(tmp_path, NAMES)  # of another authority
    certificates.make_node_certificate(str(kits), "late", role="participant")
    shutil.copytree(kits, expired := tmp_path / "expired")
    shutil.rmtree(expired / "north")
    certificates.make_node_certificate(str(expired), "north", role="participant", days=0)
    for directory, name in ((tmp_path, "north"), (expired, "north")):
        caller = parties.Raw(directory, name, hub.port)
        assert caller.join(b"")[0] is grpc.StatusCode.UNAVAILABLE  # the handshake fails
        caller.close()
    with parties.serving(tmp_path, "north", hub.port, parties.echo) as link:
        parties.wait_until(lambda: link.error is not None)
    assert "has no certificate of the authority in" in str(link.error)
    with pytest.raises(UserError, match="the certificate expired on .*; renew it"):
        wire.load_kit(str(expired / "north"), "participant")
    late = parties.Raw(kits, "late", hub.port)
    code, words = late.join(b"")
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "is not among the participants" in words
    certificates.revoke(str(kits), "late")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("node.crt", "node.crt is not of the authority in ca.crt; copy all files of one kit"),
        ("ca.crt", "node.crt is not of the authority in ca.crt; copy all files of one kit"),
        ("node.key", "node.key is not the key of node.crt"),
    ],
)
def test_a_kit_of_parts_that_do_not_belong_together_is_refused(kits, tmp_path, name, sentence):
    """Before anything is sent, rather than by attempts at a handshake without end."""
    parties.make_kits(tmp_path, NAMES)
    shutil.copytree(kits / "north", kit := tmp_path / "mixed")
    shutil.copy(tmp_path / "north" / name, kit)
    with pytest.raises(UserError, match=sentence):
        parties.Link("localhost:1", str(kit), lambda w: "", lambda w: None, parties.echo)


def test_who_is_revoked_is_out_at_once(kits, tmp_path):
    own = tmp_path / "certs"
    shutil.copytree(kits, own)
    limits = Limits(100.0, 2.0, 2.0)
    with (
        parties.hub(own, NAMES, limits=limits) as hub,
        parties.serving(own, "north", hub.port, parties.echo) as link,
    ):
        hub.wait(["north"])
        certificates.revoke(str(own), "north")
        assert hub.ask(1, "echo", {"north": ()})[0] or True  # it may have been waiting for this
        parties.wait_until(lambda: link.error is not None)
    assert "is not among the participants" in str(link.error)


def test_a_participant_is_no_coordinator(kits, tmp_path):
    with pytest.raises(
        UserError, match="is the kit of a participant, not of a coordinator.*role=coordinator"
    ) as caught:
        parties.hub(kits, NAMES).__class__(
            "localhost:0", os.path.join(kits, "north"), os.path.join(kits, certificates.PARTICIPANTS), NAMES, "", {}
        )
    assert caught.value.describe(flag_of).endswith("by `python -m programs.certs` with --role=coordinator.")


SERVER = """
import sys
from tff_tx.core import tls
tls.require_tls_1_3()
import concurrent.futures, grpc
from tff_tx.federation import wire
server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), options=wire.OPTIONS)
print(server.add_secure_port("localhost:0", wire.server_credentials(sys.argv[1] + "/coordinator")), flush=True)
server.start()
sys.stdin.read()
"""


def test_tls_is_1_3(kits):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, kits],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    port = int(server.stdout.readline())
    for version, is_served in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.create_default_context(cafile=os.path.join(kits, "north", "ca.crt"))
        context.maximum_version = version
        context.load_cert_chain(*(os.path.join(kits, "north", name) for name in ("node.crt", "node.key")))
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("localhost", port)) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost") as found:
                    assert (found.version(), is_served) == ("TLSv1.3", True)
            except ssl.SSLError:
                assert not is_served
    server.communicate()
    assert server.returncode == 0


def test_replays_and_others_names_are_rejected(kits, hub):
    north, south = (parties.Raw(kits, name, hub.port) for name in NAMES)
    session, other = north.session(), south.session()
    message = [chunk.SerializeToString() for chunk in session.chunks(0, "beat", parties.said("x"))]
    assert isinstance(north.send(message), Chunk)
    for caller, sent, words in (
        (north, message, "has been here already"),
        (south, message, "not valid for what it is to sign"),
        (north, [c.SerializeToString() for c in other.chunks(0, "beat")], "not valid for what it is to sign"),
    ):
        code, found = caller.send(sent)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in found
    north.session()  # a new one, for which messages of the last are another's
    code, words = north.send([chunk.SerializeToString() for chunk in session.chunks(0, "beat")])
    assert "session of a message is another" in words


def test_a_flipped_byte_anywhere_is_rejected(kits, hub):
    north = parties.Raw(kits, "north", hub.port)
    session = north.session()
    opening = Session(north.identity, north.authority, b"", os.urandom(16))
    kinds = {
        "join": (north.join, lambda: opening.chunks(0, "join", parties.said("x"))),
        "receive": (north.receive, lambda: session.chunks(0, "receive")),
        "send": (lambda data: north.send([data]), lambda: session.chunks(3, "train", parties.said("x"))),
    }
    drawn = random.Random(1)
    for call, chunks in kinds.values():
        for _ in range(40):
            data = bytearray(next(iter(chunks())).SerializeToString())
            place = drawn.randrange(len(data))
            data[place] ^= 1 << drawn.randrange(8)
            if Chunk.FromString(bytes(next(iter(chunks())).SerializeToString())) == _parsed(data):
                continue
            answer = call(bytes(data))
            assert not isinstance(answer, Chunk), (place, answer)
            assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT, answer


def _parsed(data):
    try:
        return Chunk.FromString(bytes(data))
    except Exception:
        return None


def test_other_minor_versions_are_understood_and_other_major_ones_named(kits, hub):
    """Older ones, and later ones with fields that this version does not know, in what is signed and beside it."""
    north = parties.Raw(kits, "north", hub.port)
    session, unknown = north.session(), b"\xfa\x06\x01x"  # field 111
    for major, minor, more, is_read in ((1, 0, b"", True), (1, 7, unknown, True), (2, 0, b"", False)):
        header = Header.FromString(session.seal(0, "beat").header)
        header.major, header.minor = major, minor
        data = header.SerializeToString() + more
        signed = Envelope(header=data, signature=north.identity.sign(digest("envelope", data)))
        answer = north.send([Chunk(envelope=signed).SerializeToString() + more])
        assert isinstance(answer, Chunk) == is_read
    assert answer == (grpc.StatusCode.INVALID_ARGUMENT, answer[1])
    assert "a message is of version 2.0, and this is 1.0: both ends need the same first number" in answer[1]


def test_a_message_longer_than_it_may_be_is_not_read(kits):
    with parties.hub(kits, NAMES, most_bytes=1000) as hub:
        north = parties.Raw(kits, "north", hub.port)
        session = north.session()
        code, words = north.send([c.SerializeToString() for c in session.chunks(1, "train", (bytes(2000),))])
        assert "longer than 1000" in words


def test_contents_come_back_and_others_are_rejected():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(True)]
    said, found = contents.unpack(b"".join(contents.pack({"a": 1}, contents.encode(arrays))))
    assert said == {"a": 1}
    for ours, theirs in zip(found, arrays):
        np.testing.assert_array_equal(ours, theirs)
    for noise in (b"", b"\0" * 9, b"\xff" * 20, (2).to_bytes(8, "big") + b"[]", (2).to_bytes(8, "big") + b"{}x"):
        with pytest.raises(EnvelopeError):
            contents.unpack(noise)
