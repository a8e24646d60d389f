"""Secure sums among participants over the real transport; threats by their numbers in docs/secure_aggregation.md."""

import contextlib
import dataclasses
import functools
import os
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.federation import parties
from tests.federation.players import LAYOUT, NAMES, RUN, THREAT, Player, check_sum, federation, leaves, party, run
from tests.federation.secure_sums import playing
from tests.federation.test_simulated_sums import SECURE
from tff_tx import algorithms, tasks
from tff_tx.core import certificates
from tff_tx.federation import contents, secure_rounds
from tff_tx.federation.engine import FORM, FederationEngine, client_of
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.hub import Limits
from tff_tx.federation.secure_rounds import KEYS, PHASES, SecureRounds, model_digest
from tff_tx.federation.secure_sums import Authority, Client, Identity, SecureSumError, Terms, decode, session
from tff_tx.federation.secure_sums.messages import MaskedInput
from tff_tx.federation.worker import Worker
from tff_tx.runtime import LocalEngine, TooFewClientsError

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), NAMES)


def test_the_sum_is_that_of_plain_arithmetic_round_after_round(kits):
    with federation(kits, {name: Player(kits, name) for name in NAMES}) as hub:
        for number in (1, 2):
            found, reasons, phases = run(hub, number)
            check_sum(found, NAMES)
            assert (reasons, tuple(phases)) == ({}, PHASES)


@pytest.mark.parametrize("phase", PHASES)
def test_a_participant_that_is_gone_in_any_phase_loses_no_round(kits, phase, monkeypatch):
    """South answers nothing from this phase on; in the sum it is if its input has arrived."""
    clock, gone, ended = parties.Clock(monkeypatch), threading.Event(), threading.Event()

    def vanish(now, answer):
        if now == phase:
            gone.set()
            ended.wait(100)
        return answer

    players = {name: Player(kits, name, vanish if name == "south" else lambda p, a: a) for name in NAMES}
    with federation(kits, players) as hub, clock.passing(hub, "south", gone.is_set):
        found, reasons, _ = run(hub)
        ended.set()
    has_sent = PHASES.index(phase) > PHASES.index("input")
    check_sum(found, NAMES if has_sent else [name for name in NAMES if name != "south"])
    assert list(reasons) == ([] if has_sent else ["south"])


def test_too_few_are_no_round_and_the_next_one_counts(kits):
    gone = {"north", "south"}

    def fail(phase, answer):
        if phase == "input" and gone:
            gone.pop()
            raise ValueError("no")
        return answer

    players = {name: Player(kits, name, fail if name in gone else lambda p, a: a) for name in NAMES}
    with federation(kits, players) as hub:
        with pytest.raises(SecureSumError, match="2 clients have sent their input, and at least 3 must.*: no"):
            run(hub)
        check_sum(run(hub, 2)[0], NAMES)


@pytest.mark.parametrize(
    ("least", "sentence"), [(3, ""), (4, "3 clients survive, and the sum is taken over at least 4")]
)
def test_a_participants_policy_bounds_each_sum(kits, least, sentence):
    def fail(phase, answer):
        if phase == "input":
            raise ValueError("no")
        return answer

    players = {name: Player(kits, name, least=least) for name in NAMES}
    players["south"].change = fail
    with federation(kits, players) as hub:
        if not sentence:
            check_sum(run(hub)[0], ["east", "north", "west"])
            return
        with pytest.raises(SecureSumError, match=f"have signed the survivors.*{sentence}"):
            run(hub)


def test_threat_1_a_participant_with_another_model_is_left_out(kits, monkeypatch):
    """And a coordinator that does not check signatures gets no sum at all: the others refuse to share keys."""
    with federation(kits, {name: Player(kits, name) for name in NAMES}) as hub:
        found, reasons, _ = run(hub, models={"south": b"o" * 32})
        check_sum(found, ["east", "north", "west"])
        assert "is not valid for what it is to sign" in reasons["south"]

        class Blind(secure_rounds.Server):
            def _receive_keys(self, sender, message):
                self._advertised[sender] = message

        monkeypatch.setattr(secure_rounds, "Server", Blind)
        with pytest.raises(SecureSumError, match="signed for another model"):
            run(hub, models={"south": b"o" * 32})


def test_a_phase_that_is_replayed_or_another_is_refused(kits):
    """A secure plan has no other phases; a session is used once; messages are of their phase."""
    east = party(kits, "east")
    with pytest.raises(SecureSumError, match="there is no session"):
        east.answer("shares", b"")
    for phase, content in (("shares", b"noise"), ("unmask", b"TSS\x01\x01" + bytes(8))):
        east.begin(1, b"m" * 32, LAYOUT, leaves("east"))
        with pytest.raises(SecureSumError):
            east.answer(phase, content)
        with pytest.raises(SecureSumError, match="there is no session"):
            east.answer(phase, content)


def test_keys_are_of_participants_of_the_plan_and_each_has_one_voice(kits, tmp_path):
    """The coordinator's own certificate, one of a participant of another plan, and an earlier one of the same."""
    shutil.copytree(kits, own := tmp_path / "certs")
    certificates.make_node_certificate(str(own), "stranger", role="participant")
    shutil.copytree(own / "north", own / "earlier")
    certificates.renew(str(own), "north")
    terms = Terms(RUN, 1, b"m" * 32, LAYOUT.vectors(), THREAT, len(NAMES))
    for fourth, sentence in (
        ("coordinator", "is not of a participant of the plan"),
        ("stranger", "is not of a participant of the plan"),
        ("earlier", "two clients are one participant"),
    ):
        east = party(own, "east")
        mine = decode(east.begin(1, b"m" * 32, LAYOUT, leaves("east")))
        everybody = Authority.load(str(own))
        others = [
            Client(terms, Identity.load(os.path.join(own, name)), everybody).advertise()
            for name in ("north", "south", fourth)
        ]
        marks = tuple(sorted(map(session.advertisement_digest, (mine, *others))))
        roster = secure_rounds.Roster(marks, tuple(others))
        with pytest.raises(SecureSumError, match=sentence):
            east.answer("shares", secure_rounds.encode(roster))


def test_threats_2_to_4_of_all_that_the_coordinator_received_no_input_can_be_had(kits, monkeypatch):
    """One participant drops out after its input; what was ever sent to the coordinator is put together again."""
    received = []

    class Recording(secure_rounds.Server):
        def receive(self, sender, message):
            received.append((self.phase, sender, message))
            super().receive(sender, message)

        def advance(self):
            phase, sent = self.phase, super().advance()
            for receiver, message in sent.items():
                requests[phase + 1, receiver] = message
            return sent

    requests, made = {}, []
    monkeypatch.setattr(secure_rounds, "Server", lambda *args: made.append(Recording(*args)) or made[-1])

    def vanish(phase, answer):
        if phase == "survivors":
            raise ConnectionResetError("gone")
        return answer

    players = {name: Player(kits, name, vanish if name == "south" else lambda p, a: a) for name in NAMES}
    with federation(kits, players) as hub:
        found, _, _ = run(hub)
        marks = hub.fingerprints(NAMES)
    check_sum(found, NAMES)
    assert {name for _, mark, m in received if isinstance(m, MaskedInput) for name in NAMES if marks[name] == mark} == {
        *NAMES
    }
    numbers = {mark: i for i, mark in enumerate(marks.values())}
    played = playing.Played(made[0], [])
    played.replies = {(phase, numbers[mark]): message for phase, mark, message in received}
    played.requests = {(phase, numbers[mark]): message for (phase, mark), message in requests.items()}
    identities = {number: Identity.load(os.path.join(kits, name)) for number, name in enumerate(NAMES)}
    monkeypatch.setattr(playing, "identity", identities.get)
    terms = dataclasses.make_dataclass("Terms", ["vectors"])(LAYOUT.vectors())
    for number, name in enumerate(NAMES):
        unmasked = playing.recovered(played, terms, number)
        for ours, truth in zip(unmasked, LAYOUT.join(leaves(name))):
            assert np.mean(ours.astype(np.int64) == truth) < 0.5, name


def answer(worker, owner, header, payload):
    """What a participant with a model answers."""
    if header.phase not in (FORM, KEYS):
        return contents.pack({}, owner.answer(header.phase, contents.split(payload)[1]))
    said, arrays = contents.unpack(payload)
    if header.phase == FORM:
        return contents.pack({"form": worker.digest})
    summed, _, _ = worker.train([client_of(plain) for plain in said["clients"]], arrays)
    return contents.pack({}, owner.begin(header.round, model_digest(worker.digest, arrays), worker.layout, summed))


@pytest.mark.slow
def test_a_federation_gives_the_state_of_arithmetic_to_the_bit(digits_task, kits):
    """Participants with one client and with two; then one that fails, whose clients the local run leaves out."""
    task = tiny.linear_digits_task(digits_task)
    process = algorithms.build_fed_avg(task.model, SECURE)
    ids = task.train.client_ids[:5]
    rounds = [tasks.client_arguments(ids, 1, 1), tasks.client_arguments(ids, 1, 2)]
    owner = {client: NAMES[i % 4] for i, client in enumerate(ids)}

    def leaf_values(output, engine):
        return [np.asarray(leaf) for leaf in tf.nest.flatten((engine.flatten_state(output.state), output.metrics))]

    with LocalEngine(task.process(process)) as local:
        first = local.run_round(local.initialize(), rounds[0])
        left = [c for c in rounds[1] if owner[c["client_id"].decode()] != "south"]
        expected = [leaf_values(first, local), leaf_values(local.run_round(first.state, left), local)]
    with parties.hub(kits, NAMES, limits=Limits()) as hub, contextlib.ExitStack() as stack:
        worker, turn = Worker(process, task.train_batches), threading.Lock()  # one for all saves tracing three
        stack.callback(worker.close)

        def respond(name, mine, header, payload):
            if (header.round, header.phase, name) == (2, "shares", "south"):
                raise EnvelopeError("gone.")
            with turn:
                return answer(worker, mine, header, payload)

        for name in NAMES:
            handle = functools.partial(respond, name, party(kits, name))
            stack.enter_context(parties.serving(kits, name, hub.port, handle))
        hub.wait()
        engine = FederationEngine(
            process,
            hub,
            lambda client: owner[client["client_id"].decode()],
            {},
            secure_fn=lambda layout: SecureRounds(hub, layout, THREAT, RUN, 20.0),
        )
        engine.check_forms(NAMES)
        outputs = [engine.run_round(engine.initialize(), rounds[0])]
        outputs.append(engine.run_round(outputs[0].state, rounds[1]))
        for output, wanted in zip(outputs, expected):
            for ours, theirs in zip(leaf_values(output, engine), wanted):
                np.testing.assert_array_equal(ours, theirs)
        assert outputs[1].failures == {2: "south: gone"}
        assert outputs[1].upload_bytes is None
        few = [c for c in rounds[0] if owner[c["client_id"].decode()] in ("east", "north")]
        with pytest.raises(TooFewClientsError, match="too few: at least 3 must be honest"):
            engine.run_round(engine.initialize(), few)
