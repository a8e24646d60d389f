"""Faults and hostility: parties that are killed, cut off, answer twice or talk nonsense."""

import contextlib
import random
import re
import subprocess
import sys
import time
import tracemalloc

import pytest

from tests.federation import parties, players
from tests.federation.players import NAMES, Player, check_sum, federation, run
from tests.processes import FORKING, ROOT
from tff_tx.core import certificates
from tff_tx.federation import contents
from tff_tx.federation.envelopes import EnvelopeError, Session, parse_chunk
from tff_tx.federation.hub import Limits
from tff_tx.federation.messages_pb2 import Chunk
from tff_tx.federation.secure_rounds import PHASES
from tff_tx.federation.secure_sums import SecureSumError

OTHERS = [name for name in NAMES if name != "south"]


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), NAMES)


class Process:
    """A participant in a process of its own."""

    def __init__(self, kits, name, port, *more):
        command = [sys.executable, "-m", "tests.federation.players", str(kits), name, str(port), *more]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def wait_for(self, line):
        """Reads what it prints until a line."""
        while (found := self._process.stdout.readline().strip()) != line:
            assert found or self._process.poll() is None

    def kill(self):
        """kill -9."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.mark.slow
def test_kill_9_of_a_participant_in_each_phase_loses_no_round(kits, monkeypatch):
    """Processes; the one that is killed comes back for the next round, and is in the sum if its input has arrived."""
    clock = parties.Clock(monkeypatch)
    with parties.hub(kits, NAMES) as hub, contextlib.ExitStack() as stack:

        def start(name, *more):
            found = Process(kits, name, hub.port, *more)
            stack.callback(found.kill)
            return found

        for name in OTHERS:
            start(name)
        for number, phase in enumerate(PHASES, 1):
            south = start("south", "hangs")
            south.wait_for("joined")
            hub.wait()
            killed = parties.background(lambda: (south.wait_for(f"{number} {phase}"), south.kill()))  # noqa: B023
            with clock.passing(hub, "south", lambda: not killed.is_alive()):  # noqa: B023
                found, reasons, _ = run(hub, number)
            killed.join()
            has_sent = PHASES.index(phase) > PHASES.index("input")
            check_sum(found, NAMES if has_sent else OTHERS)
            assert list(reasons) == ([] if has_sent else ["south"])
        start("south").wait_for("joined")
        found, reasons, _ = run(hub, len(PHASES) + 1)
        check_sum(found, NAMES)
        assert reasons == {}


@pytest.mark.slow
def test_kill_9_at_30_random_moments_loses_no_round(kits, monkeypatch):
    """Each round one participant, at a moment of it; the sum is over all whose input has arrived, and all come back."""
    drawn, started, clock = random.Random(7), {}, parties.Clock(monkeypatch)

    def start(name):
        with hub._peers.changed:
            hub._peers[name].is_ready = False
        started[name] = FORKING.Process(target=players.main, args=(str(kits), name, hub.port))
        started[name].start()

    def kill(name, seconds=0.0):
        time.sleep(seconds)
        started[name].kill()
        started[name].join()

    with parties.hub(kits, NAMES) as hub, contextlib.ExitStack() as stack:
        for name in NAMES:
            start(name)
            stack.callback(lambda name=name: kill(name))
        lost = 0
        for number in range(1, 31):
            hub.wait()  # who was killed is back
            name, seconds = drawn.choice(NAMES), drawn.uniform(0.0, 0.5)
            killed = parties.background(lambda: kill(name, seconds))  # noqa: B023
            with clock.passing(hub, name, lambda: not killed.is_alive()):  # noqa: B023
                found, reasons, _ = run(hub, number)
            killed.join()
            assert set(reasons) <= {name}
            check_sum(found, [each for each in NAMES if each not in reasons])
            lost += len(reasons)
            start(name)
        assert 0 < lost < 30  # moments before its input and after it
        hub.wait()
        found, reasons, _ = run(hub, 31)
        check_sum(found, NAMES)
        assert reasons == {}


@pytest.mark.slow
def test_a_network_that_is_cut_for_30_seconds_costs_no_participant(kits):
    """In the middle of a round: within the limits the participant comes back, and answers what it had not."""
    with parties.hub(kits, NAMES, limits=Limits(60.0, 90.0, 45.0)) as hub, contextlib.ExitStack() as stack:
        proxy = parties.Proxy(hub.port)
        stack.callback(proxy.close)

        def cut(phase, answer):
            if phase == "input":
                proxy.block(30.0)
            return answer

        for name in OTHERS:
            stack.enter_context(parties.serving(kits, name, hub.port, Player(kits, name)))
        stack.enter_context(parties.serving(kits, "south", proxy.port, Player(kits, "south", cut)))
        hub.wait()
        started = time.monotonic()
        found, reasons, _ = run(hub, seconds=90.0)
        assert time.monotonic() - started > 29
        check_sum(found, NAMES)
        assert reasons == {}


def test_an_answer_counts_once_and_a_participant_that_never_answers_costs_one_phase(kits, monkeypatch):
    """East sends every answer twice, as itself; south takes the first message and is never heard of again."""
    clock = parties.Clock(monkeypatch)
    with federation(kits, {name: Player(kits, name) for name in OTHERS[1:]}) as hub, clock.passing(hub, "south"):
        east, silent = (parties.Raw(kits, name, hub.port) for name in ("east", "south"))
        sessions = east.session(), silent.session()
        for caller, session in zip((east, silent), sessions):
            assert isinstance(caller.send([c.SerializeToString() for c in session.chunks(0, "ready")]), Chunk)
        hub.wait()
        player = Player(kits, "east")

        def twice():
            for _ in PHASES:
                header, payload = east.message(sessions[0])
                answer = player(header, payload)
                for _ in range(2):
                    chunks = sessions[0].chunks(header.round, header.phase, answer, header.payload_sha256)
                    assert isinstance(east.send([c.SerializeToString() for c in chunks]), Chunk)

        sending = parties.background(twice)
        found, reasons, _ = run(hub)
        sending.join()
    check_sum(found, OTHERS)
    assert reasons == {"south": "south has not answered within 100 s"}


def kinds():
    """Parties and messages: those that leave a participant by the operator's page, and the key holder's."""
    page = (ROOT / "docs" / "participant.md").read_text().split("## What leaves")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    found = [*dict.fromkeys(re.findall("`([a-z_]+)`", " ".join(rows)))]
    assert {*PHASES, "train", "evaluate", "encrypt", "form"} <= {*found}  # FedBuff's is `train`
    return [("east", kind) for kind in (*found, "beat", "receive")] + [
        ("keyholder", kind) for kind in ("public_key", "decrypt", "ready", "beat", "receive")
    ]


def test_a_flipped_byte_in_each_kind_of_message_is_rejected_at_either_end(kits):
    certificates.make_node_certificate(str(kits), "keyholder", role="keyholder")
    ends, drawn = {name: parties.Raw(kits, name, 1) for name in ("coordinator", "east", "keyholder")}, random.Random(5)
    pairs = [(ends["coordinator"], ends[party], kind) for party, kind in kinds()]
    for sender, receiver, kind in (*pairs, *((receiver, sender, kind) for sender, receiver, kind in pairs)):
        mine = Session(sender.identity, sender.authority, receiver.identity.certificate, b"s" * 16, parties.RUN)
        yours = Session(receiver.identity, receiver.authority, sender.identity.certificate, b"s" * 16, parties.RUN)
        data = next(mine.chunks(7, kind, contents.pack({"a": 1}, b"content"))).SerializeToString()
        for _ in range(20):
            flipped = bytearray(data)
            flipped[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
            with contextlib.suppress(EnvelopeError):
                chunk = parse_chunk(bytes(flipped))
                if chunk == Chunk.FromString(data):
                    continue
                yours.read([chunk], 1000)
                pytest.fail(f"{kind}: {bytes(flipped)!r}")
        assert yours.read(mine.chunks(7, kind, contents.pack({"a": 1}, b"content")), 1000)[0].phase == kind


@pytest.mark.slow
def test_10_000_fuzzed_messages_end_in_sentences_and_bounded_memory(kits):
    """To a participant's end of secure sums, half of them true messages with changes; the next round counts."""
    recorded, drawn = [], random.Random(6)

    class Recording(Player):
        def __call__(self, header, payload):
            recorded.append((header, payload))
            return super().__call__(header, payload)

    with federation(kits, {name: Recording(kits, name) for name in NAMES}) as hub:
        run(hub)
        east, sentences = Player(kits, "east"), []
        tracemalloc.start()
        for number in range(10_000):
            header, payload = drawn.choice(recorded)
            noise = bytearray(payload)
            if number % 2:
                for _ in range(drawn.choice([1, 1, 3, 50])):
                    noise[drawn.randrange(len(noise))] = drawn.randrange(256)
                noise = noise[: drawn.choice([len(noise), drawn.randrange(len(noise))])]
            else:
                noise = drawn.randbytes(drawn.choice([0, 1, 8, 40, 3000]))
            try:
                east(header, bytes(noise))
            except (EnvelopeError, SecureSumError) as error:
                sentences.append(str(error))
            except (KeyError, ValueError, TypeError):
                assert header.phase == "keys"  # of which this player, unlike a participant, checks nothing
        assert len(sentences) > 7000
        assert max(map(len, sentences)) < 500
        assert tracemalloc.get_traced_memory()[1] < 5e6
        tracemalloc.stop()
        check_sum(run(hub, 2)[0], NAMES)
