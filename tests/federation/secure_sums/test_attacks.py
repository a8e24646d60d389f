"""Attacks on secure sums, by their numbers in docs/secure_aggregation.md: a sentence, and nothing is revealed.

In each, all that the coordinator ever received is put together again, see `playing.recovered`.
"""

import dataclasses

import numpy as np
import pytest

from tests.federation.secure_sums import playing
from tff_tx.core import certificates
from tff_tx.federation.secure_sums import Client, Identity, Server, Threat, Vector, keys, messages, session
from tff_tx.federation.secure_sums.errors import SecureSumError

VECTORS = (Vector("values", 50, 2**20),)
CLIENTS = 6
THREAT = Threat(colluding=0.2, dropping=0.2, active=True)  # threshold 4 of 6


@pytest.fixture
def agreed():
    return playing.terms(CLIENTS, VECTORS, THREAT)


class Liar(Server):
    """A server that changes what it sends: `change` is from (phase, messages by fingerprint) to others."""

    def __init__(self, agreed, change):
        super().__init__(agreed, playing.checker())
        self._change = change

    def advance(self):
        phase, sent = self.phase, dict(super().advance())
        return self._change(self, phase, sent)


def name(number):
    return playing.identity(number).fingerprint


def check_aborted(played, agreed, sentence, *clients):
    """These clients have given up with the sentence, and nobody's input can be had."""
    assert {i: sentence in played.aborted.get(i, "") for i in clients} == dict.fromkeys(clients, True), played.aborted
    assert played.server.sums is None
    playing.check_hidden(played, agreed)


def test_control_a_coordinator_with_both_shares_of_a_client_would_have_its_input(agreed):
    """What the attacks below are after: were a client's two secrets revealed, `recovered` would find its input."""
    secrets = {}

    class Careless(Client):
        def share_keys(self, roster):
            found = super().share_keys(roster)
            secrets[self._index] = self._seed, self._mask_secret
            return found

    clients = [Careless(agreed, playing.identity(i), playing.checker()) for i in range(CLIENTS)]
    played = playing.play(agreed, clients=clients)
    playing.check_hidden(played, agreed)
    victim = played.server._indices[name(0)]
    found, ring = playing.recovered(played, agreed, 0), VECTORS[0].ring  # its self-mask is off already
    for v in played.requests[2, 0].senders:
        public, length = played.server._keys[v].mask_key, VECTORS[0].length
        pair = keys.agree(secrets[victim][1], public, played.server._session, session.MASKS)
        words = playing.mask(pair, played.server._session, VECTORS[0].name, length, ring)
        (ring.subtract if v > victim else ring.add)(found[0], words)
    np.testing.assert_array_equal(ring.reduced(found[0]), playing.inputs(0, VECTORS)[0])


def test_threat_1_different_models_for_two_clients(agreed):
    other = dataclasses.replace(agreed, model=b"o" * 32)
    clients = [Client(other if i == 2 else agreed, playing.identity(i), playing.checker()) for i in range(CLIENTS)]
    played = playing.play(agreed, clients=clients)
    assert "is not valid for what it is to sign" in played.refused[2]  # an honest server finds it, too

    class Blind(Server):
        def _receive_keys(self, sender, message):
            self._advertised[sender] = message

    clients = [Client(other if i == 2 else agreed, playing.identity(i), playing.checker()) for i in range(CLIENTS)]
    played = playing.play(agreed, clients=clients, server=Blind(agreed, playing.checker()))
    check_aborted(played, agreed, "signed for another model", *range(CLIENTS))
    assert not any(phase == 2 for phase, _ in played.replies)


def test_threat_1_masks_of_different_models_do_not_cancel(agreed):
    """Even if all but one client did not check signatures."""
    made = [dataclasses.replace(agreed, model=bytes([i]) * 32) for i in (1, 2)]
    roster, secrets = b"r" * 32, (keys.new_secret(), keys.new_secret())
    public = [keys.public_key(secret) for secret in secrets]
    pair = [
        keys.agree(secrets[i], public[1 - i], session.session_digest(made[i], roster), session.MASKS) for i in (0, 1)
    ]
    assert pair[0] != pair[1]


def test_threat_2_both_shares_of_one_client(agreed):
    def change(server, phase, sent):
        if phase == 3:
            victim = server._indices[name(0)]
            sent = {n: dataclasses.replace(m, dropped=(*m.dropped, victim)) for n, m in sent.items()}
        return sent

    played = playing.play(agreed, server=Liar(agreed, change))
    check_aborted(played, agreed, "both of its shares are asked for", *range(1, CLIENTS))


def test_threat_3_a_client_that_is_listed_dead_and_alive(agreed):
    """Dead to half of the clients, alive to the others, so that each half gives another share."""

    def change(server, phase, sent):
        victim = server._indices[name(0)]
        if phase == 2:
            without = tuple(i for i in server._named if i != victim)
            sent = {n: messages.Survivors(without) if n in map(name, (0, 1, 2)) else m for n, m in sent.items()}
        if phase == 3:
            sent = {
                n: dataclasses.replace(m, dropped=(victim,)) if n in map(name, (1, 2)) else m for n, m in sent.items()
            }
        return sent

    played = playing.play(agreed, server=Liar(agreed, change))
    assert "says that this client has dropped out, which it has not" in played.aborted[0]
    assert {1, 2} & played.refused.keys()  # their signatures are of other survivors
    playing.check_hidden(played, agreed)
    assert played.server.sums is None

    class Forwarding(Liar):
        def _receive_signature(self, index, message):
            self._signed[index] = message.signature

    played = playing.play(agreed, server=Forwarding(agreed, change))
    check_aborted(played, agreed, "was told of other survivors", *range(1, CLIENTS))


def test_threat_4_all_but_one_dropped(agreed):
    def change(server, phase, sent):
        if phase == 2:
            sent = {n: messages.Survivors((server._indices[n],)) for n in sent}
        return sent

    played = playing.play(agreed, server=Liar(agreed, change))
    check_aborted(played, agreed, "1 clients survive, and the sum is taken over at least 4", *range(CLIENTS))


@pytest.mark.parametrize("active", [False, True])
def test_threat_4_all_but_the_colluders_and_one_dropped(active):
    """Of a sum over client 0 and all that collude, these subtract their own inputs."""
    agreed = playing.terms(10, threat=Threat(0.2, 0.3, active))
    played = playing.play(agreed, {2: list(range(3, 10))})
    assert played.server.sums is None
    assert "at least" in played.ended
    assert agreed.sizes(10).least - agreed.threat.colluders(10) >= 2
    assert playing.play(agreed, {2: list(range(7, 10))}).server.sums is not None


def test_threat_4_a_roster_of_one_honest_client_and_two_others(agreed):
    alone = Client(agreed, playing.identity(0), playing.checker())
    own = session.advertisement_digest(alone.advertise())
    with pytest.raises(SecureSumError, match="at least 3 must be honest"):
        alone.share_keys(messages.Roster(tuple(sorted([own, b"x" * 32])), ()))


@pytest.mark.parametrize("signed_by", ["nobody", "another authority", "another admitted client"])
def test_threat_5_a_replaced_public_key(agreed, signed_by):
    public = [keys.public_key(keys.new_secret()) for _ in range(2)]
    signed = session.keys_digest(agreed, *public)

    def forged(other):
        certificate, signature = other.certificate, other.signature
        if signed_by == "another authority":
            stranger = Identity.of(certificates.issue("client 0", authority=certificates.issue("authority")))
            certificate, signature = stranger.certificate, stranger.sign(signed)
        elif signed_by == "another admitted client":
            certificate, signature = playing.identity(1).certificate, playing.identity(1).sign(signed)
        return messages.AdvertiseKeys(certificate, *public, signature)

    class Replacing(Server):
        def _rosters(self):
            self._advertised[name(0)] = forged(self._advertised[name(0)])
            return super()._rosters()

    played = playing.play(agreed, server=Replacing(agreed, playing.checker()))
    sentence = {
        "nobody": "The keys are replaced",
        "another authority": "not one of the federation's authority",
        "another admitted client": "two clients have the same certificate",
    }[signed_by]
    check_aborted(played, agreed, sentence, *range(1, CLIENTS))
    assert "does not have this client's own keys" in played.aborted[0]
    assert not any(phase == 2 for phase, _ in played.replies)


@pytest.mark.parametrize("phase", range(1, 5))
def test_threat_6_a_replayed_phase(agreed, phase):
    played = playing.play(agreed)
    clients = [Client(agreed, playing.identity(i), playing.checker()) for i in range(CLIENTS)]
    step = ("advertise", "share_keys", "masked_input", "sign_survivors", "unmask")[phase]
    extra = [playing.inputs(0, VECTORS)] if phase == 2 else []
    # To a client that has answered it, and to one of a new session in its first phase.
    for client in (played.clients[0], clients[0]):
        with pytest.raises(SecureSumError, match="was asked to"):
            getattr(client, step)(played.requests[phase, 0], *extra)
    with pytest.raises(SecureSumError, match="is not awaited"):
        played.server.receive(name(0), played.replies[phase, 0])


def test_threat_6_messages_of_another_session_are_refused(agreed):
    before = playing.play(agreed)

    def change(server, phase, sent):
        if phase == 1:
            sent[name(0)] = before.requests[2, 0]
        return sent

    played = playing.play(agreed, server=Liar(agreed, change))
    assert "cannot be decrypted" in played.aborted[0] or "no neighbour" in played.aborted[0]
    playing.check_hidden(played, agreed)


def test_threat_7_a_lie_about_the_survivors(agreed):
    """Each client is told of survivors that suit the coordinator, and the signatures are of different lists."""

    class Lying(Liar):
        def _receive_signature(self, index, message):
            self._signed[index] = message.signature

    def change(server, phase, sent):
        absent = {name(i): server._indices[name(5 if i < 3 else 0)] for i in range(CLIENTS)}
        if phase == 2:
            sent = {n: messages.Survivors(tuple(i for i in server._named if i != absent[n])) for n in sent}
        if phase == 3:
            for n in sent:
                signers = sorted(server._signed.keys() - {absent[n], server._indices[n]})
                sent[n] = messages.Unmask(tuple(signers), tuple(server._signed[i] for i in signers), (absent[n],))
        return sent

    played = playing.play(agreed, server=Lying(agreed, change))
    check_aborted(played, agreed, "was told of other survivors", *range(CLIENTS))


@pytest.mark.parametrize(
    ("survivors", "sentence"),
    [
        (lambda n: (*n[:4], 6), "or one that there is not"),
        (lambda n: (*n[:4], n[3], n[4]), "name a client twice"),
        (lambda n: n[:3], "at least 4"),
        (lambda n: (), "which it has not"),
    ],
)
def test_threat_7_survivors_that_there_cannot_be(agreed, survivors, sentence):
    def change(server, phase, sent):
        return {n: messages.Survivors(survivors(server._named)) for n in sent} if phase == 2 else sent

    played = playing.play(agreed, server=Liar(agreed, change))
    assert any(sentence in found for found in played.aborted.values()), played.aborted
    assert len(played.aborted) == CLIENTS
    playing.check_hidden(played, agreed)


def test_threat_8_sealed_shares_that_nobody_can_open(agreed):
    def tamper(phase, number, reply):
        if phase == 1 and number == 0:
            return dataclasses.replace(reply, sealed=tuple(bytes(len(s)) for s in reply.sealed))
        return reply

    played = playing.play(agreed, tamper=tamper)
    check_aborted(played, agreed, "cannot be decrypted", *range(1, CLIENTS))


@pytest.mark.parametrize("dropped", [{}, {2: [0]}])
def test_threat_8_shares_that_do_not_fit(agreed, dropped):
    """Of a self-mask or, if the client then vanishes, of its private key."""

    class Cheat(Client):
        def share_keys(self, roster):
            found = super().share_keys(roster)
            wrong = bytes(range(72))
            sealed = tuple(
                keys.seal(self._key(v, session.SHARES), wrong, self._session, self._index, v) for v in found.receivers
            )
            return dataclasses.replace(found, sealed=sealed)

    clients = [(Client if i else Cheat)(agreed, playing.identity(i), playing.checker()) for i in range(CLIENTS)]
    played = playing.play(agreed, dropped, clients=clients)
    assert "do not fit" in played.ended
    assert played.server.sums is None
    playing.check_hidden(played, agreed, *range(1, CLIENTS))


def test_threat_8_one_holder_that_returns_wrong_shares(agreed):
    def tamper(phase, number, reply):
        return (
            dataclasses.replace(reply, shares=(bytes(36),) * len(reply.shares)) if (phase, number) == (4, 1) else reply
        )

    played = playing.play(agreed, {4: [4, 5]}, tamper=tamper)
    assert "do not fit" in played.ended
    playing.check_hidden(played, agreed)


def test_threat_9_another_in_a_clients_name(agreed):
    """Messages under a certificate that is not the sender's, of strangers, and twice."""
    server = Server(agreed, playing.checker())
    one = Client(agreed, playing.identity(0), playing.checker()).advertise()
    with pytest.raises(SecureSumError, match="under another's certificate"):
        server.receive(name(1), one)
    server.receive(name(0), one)
    with pytest.raises(SecureSumError, match="already"):
        server.receive(name(0), one)
    for i in range(1, CLIENTS):
        server.receive(name(i), Client(agreed, playing.identity(i), playing.checker()).advertise())
    server.advance()
    with pytest.raises(SecureSumError, match="no part in this phase"):
        server.receive(name(CLIENTS), messages.ShareKeys(bytes(32), (), ()))


def test_threat_10_a_roster_with_a_neighbour_that_the_graph_does_not_have():
    """In a random graph the coordinator does not choose who a client's neighbours are."""
    agreed = playing.terms(24, VECTORS, Threat(0.0, 0.1))

    def change(server, phase, sent):
        if phase == 0:
            roster = sent[name(0)]
            others = {m.mask_key for m in roster.neighbours} | {server._advertised[name(0)].mask_key}
            stranger = next(m for m in server._keys if m.mask_key not in others)
            sent[name(0)] = dataclasses.replace(roster, neighbours=(*roster.neighbours[1:], stranger))
        return sent

    played = playing.play(agreed, server=Liar(agreed, change))
    assert "not those of this client's neighbours" in played.aborted[0]
