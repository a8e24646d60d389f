"""The law of secure sums: whoever drops out when, the sum is that of plain arithmetic, to the bit."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.federation.secure_sums import playing
from tff_tx.federation.secure_sums import Client, Server, Threat, Vector, encode, messages
from tff_tx.federation.secure_sums.errors import SecureSumError

VECTORS = (Vector("a", 3, 2**20), Vector("b", 2, 1000003), Vector("c", 1, 2**40))
PHASES = 5


def survivors(dropped, clients):
    """Who is in the sum: those who vanish before they send their input are not."""
    return [i for i in range(clients) if all(i not in dropped.get(phase, ()) for phase in (0, 1, 2))]


def check_equal(played, agreed, numbers):
    assert (played.aborted, played.refused, played.ended) == ({}, {}, "")
    for found, expected in zip(played.server.sums, playing.total(agreed, numbers)):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("clients", [3, 4])
def test_all_dropout_patterns_of_few(clients):
    agreed = playing.terms(clients, VECTORS, Threat(0.0, 0.5, active=False))  # threshold 2
    phases = range(1, PHASES + 1)
    # Of four up to their order, which the session draws anyway.
    every = itertools.combinations_with_replacement(phases, 4) if clients == 4 else itertools.product(phases, repeat=3)
    for leaving in every:
        dropped = {phase: [i for i, when in enumerate(leaving) if when == phase] for phase in range(PHASES)}
        played = playing.play(agreed, dropped)
        if sum(when == PHASES for when in leaving) >= 2:
            check_equal(played, agreed, survivors(dropped, clients))
        else:
            assert played.server.sums is None
            assert "at least 2 must" in played.ended or "2 are needed" in played.ended or played.aborted


MODULI = st.one_of(st.integers(2, 2**62), st.integers(1, 62).map(lambda b: 2**b))


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(st.integers(3, 7), st.lists(st.tuples(st.integers(0, 30), MODULI), min_size=1, max_size=3), st.data())
def test_masks_are_arithmetic_to_the_bit(clients, sizes, data):
    vectors = [Vector(f"v{i}", length, modulus) for i, (length, modulus) in enumerate(sizes)]
    agreed = playing.terms(clients, vectors, Threat(0.0, 0.25, active=data.draw(st.booleans())))
    spare = clients - agreed.sizes(clients).threshold
    leaving = data.draw(st.lists(st.integers(0, clients - 1), max_size=spare, unique=True))
    dropped = {i: data.draw(st.integers(1, PHASES - 1)) for i in leaving}
    by_phase = {phase: [i for i, when in dropped.items() if when == phase] for phase in range(PHASES)}
    played = playing.play(agreed, by_phase)
    check_equal(played, agreed, survivors(by_phase, clients))


def test_a_random_graph_of_many_sums_without_a_tenth():
    agreed = playing.terms(24, [Vector("values", 40, 2**20)], Threat(0.0, 0.1, active=True))
    assert not agreed.sizes(24).is_full
    dropped = {2: [5], 3: [9]}
    played = playing.play(agreed, dropped)
    check_equal(played, agreed, survivors(dropped, 24))
    playing.check_hidden(played, agreed)


def test_a_masked_input_is_as_long_as_its_bits():
    agreed = playing.terms(4, [Vector("values", 8000, 2**20)])
    played = playing.play(agreed)
    sent = [sum(len(encode(played.replies[phase, i])) for phase in range(PHASES)) for i in range(4)]
    assert 20_000 < max(sent) < 20_000 + 2_500


def test_sums_by_an_aggregator_are_unmasked_alike():
    agreed = playing.terms(3, threat=Threat(0.0, 0.3))
    server, clients = Server(agreed, playing.checker()), [playing.identity(i) for i in range(3)]
    machines = {one.fingerprint: Client(agreed, one, playing.checker()) for one in clients}
    for name, machine in machines.items():
        server.receive(name, machine.advertise())
    for name, roster in server.advance().items():
        server.receive(name, machines[name].share_keys(roster))
    maskers = {name: machines[name].mask(shares) for name, shares in server.advance().items()}
    values = {one.fingerprint: playing.inputs(i, agreed.vectors) for i, one in enumerate(clients)}
    masked = [maskers[name](values[name])[0].astype(np.int64) for name in maskers]
    server.add_masked(maskers, [sum(masked) % 2**20])
    with pytest.raises(SecureSumError, match="in the sum already"):
        server.add_masked(maskers, [sum(masked)])
    for name, named in server.advance().items():
        server.receive(name, machines[name].sign_survivors(named))
    for name, request in server.advance().items():
        server.receive(name, machines[name].unmask(request))
    server.advance()
    assert server.sums[0].tolist() == playing.total(agreed, range(3))[0].tolist()


def test_clients_have_no_secrets_after_the_last_answer_or_a_refusal():
    agreed = playing.terms(3, threat=Threat(0.0, 0.3))
    played = playing.play(agreed)
    refusing = Client(agreed, playing.identity(0), playing.checker())
    refusing.advertise()
    with pytest.raises(SecureSumError, match="roster does not have this client's own keys"):
        refusing.share_keys(messages.Roster((b"x" * 32,), ()))
    for client in (*played.clients, refusing):
        assert (client._shares, client._mask_secret, client._share_secret, client._seed) == ({}, None, None, None)
        with pytest.raises(SecureSumError, match="the session is over"):
            client.advertise()


def test_vectors_of_other_lengths_are_not_sent():
    agreed = playing.terms(3, threat=Threat(0.0, 0.3))
    values = [playing.inputs(0, agreed.vectors), [np.zeros(4, np.int64)], playing.inputs(2, agreed.vectors)]
    played = playing.play(agreed, values=values)
    assert "not of the lengths that were agreed" in played.aborted[1]
    assert played.server.sums[0].tolist() == playing.total(agreed, [0, 2])[0].tolist()
