"""The cryptographic parts: shares, masks, packing, graphs, messages; each by its law."""

import collections
import contextlib
import dataclasses
import os
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.federation.secure_sums import playing
from tff_tx.core import certificates
from tff_tx.federation.secure_sums import (
    Authority,
    Identity,
    Threat,
    Vector,
    decode,
    encode,
    keys,
    messages,
    shamir,
    topology,
)
from tff_tx.federation.secure_sums.errors import MalformedMessageError, SecureSumError
from tff_tx.federation.secure_sums.graphs import Graph
from tff_tx.federation.secure_sums.identities import digest
from tff_tx.federation.secure_sums.masks import mask
from tff_tx.federation.secure_sums.modular import Ring
from tff_tx.federation.secure_sums.packing import pack, packed_size, unpack

MODULI = st.one_of(st.integers(2, 2**62), st.integers(1, 62).map(lambda b: 2**b))
fast = hypothesis.settings(max_examples=30, deadline=None)


@fast
@hypothesis.given(st.binary(min_size=32, max_size=32), st.integers(1, 8), st.data())
def test_any_threshold_shares_give_the_secret_and_fewer_another(secret, threshold, data):
    holders = data.draw(st.lists(st.integers(0, 10_000), min_size=threshold, max_size=12, unique=True))
    shares = shamir.split(secret, threshold, holders)
    chosen = data.draw(st.permutations(holders))[:threshold]
    assert shamir.combine({h: shares[h] for h in chosen}, threshold) == secret
    if threshold > 1:
        with pytest.raises(SecureSumError, match="are needed"):
            shamir.combine({h: shares[h] for h in chosen[1:]}, threshold)


def test_a_wrong_share_gives_another_secret_or_an_error():
    secret = os.urandom(32)
    shares = shamir.split(secret, 3, [0, 1, 2])
    shares[1] = bytes(36)
    with contextlib.suppress(SecureSumError):
        assert shamir.combine(shares, 3) != secret


@fast
@hypothesis.given(MODULI, st.integers(0, 40))
def test_numbers_are_packed_to_their_bits_and_back(modulus, length):
    ring = Ring(modulus)
    numbers = mask(bytes(32), b"session", "x", length, ring)
    numbers = ring.reduced(numbers)
    packed = pack(numbers, ring)
    assert len(packed) == packed_size(length, ring) == -(-length * ring.bits // 8)
    np.testing.assert_array_equal(unpack(packed, length, ring), numbers)
    expected = sum(int(n) << (i * ring.bits) for i, n in enumerate(numbers))
    assert int.from_bytes(packed, "little") == expected
    with pytest.raises(MalformedMessageError, match="bytes instead of"):
        unpack(packed + b"x", length, ring)


def test_packed_numbers_are_below_the_modulus():
    with pytest.raises(MalformedMessageError, match="not below its modulus 5"):
        unpack(b"\xff", 2, Ring(5))


@pytest.mark.parametrize("modulus", [8, 6, 3 * 2**30, 2**31 + 11])
def test_masks_are_uniform_modulo_m(modulus):
    ring = Ring(modulus)
    words = ring.reduced(mask(b"k" * 32, b"s", "x", 40_000, ring)).astype(np.int64)
    counts = np.bincount(words * 8 // modulus if modulus > 8 else words, minlength=min(modulus, 8))
    expected = 40_000 / len(counts)
    assert np.sum((counts - expected) ** 2 / expected) < 27  # chi-squared of 7, 3e-4


def test_masks_depend_on_key_session_name_length_and_bits():
    ring = Ring(2**16)
    usual = {"key": b"k" * 32, "session": b"s", "name": "x", "length": 64, "ring": ring}
    others = ({"key": b"l" * 32}, {"session": b"t"}, {"name": "y"}, {"length": 65}, {"ring": Ring(2**15)})
    first = mask(**usual)
    np.testing.assert_array_equal(first, mask(**usual))
    for other in others:
        assert np.mean(first == mask(**{**usual, **other})[:64]) < 0.1


@fast
@hypothesis.given(MODULI, st.data())
def test_a_ring_adds_and_subtracts(modulus, data):
    ring, number = Ring(modulus), st.integers(0, modulus - 1)
    a, b = (data.draw(st.lists(number, min_size=3, max_size=3)) for _ in "ab")
    words = ring.of(np.array(a, np.uint64))
    ring.add(words, ring.of(np.array(b, np.uint64)))
    assert ring.reduced(words).tolist() == [(x + y) % modulus for x, y in zip(a, b)]
    for _ in range(2):
        ring.subtract(words, ring.of(np.array(b, np.uint64)))
    assert ring.reduced(words).tolist() == [(x - y) % modulus for x, y in zip(a, b)]


def test_negative_numbers_are_taken_modulo_m():
    assert Ring(6).reduced(Ring(6).of(np.array([-1, 7]))).tolist() == [5, 1]
    assert Ring(8).reduced(Ring(8).of(np.array([-1, 9]))).tolist() == [7, 1]


@pytest.mark.parametrize(
    ("threat", "sizes"),
    [
        (Threat(1 / 3, 0.1, active=False), {100: (42, 32), 500: (90, 64), 1_000: (102, 72), 10_000: (126, 88)}),
        (Threat(1 / 5, 0.1, active=True), {100: (42, 32), 1_000: (140, 104)}),
    ],
)
def test_degrees_and_thresholds_are_those_of_the_published_formula(threat, sizes):
    assert {n: (topology(n, threat).degree, topology(n, threat).threshold) for n in sizes} == sizes


def test_small_federations_have_the_full_graph():
    sizes = {n: topology(n, Threat(0.2, 0.1)).threshold for n in (3, 4, 10, 19)}
    assert sizes == {3: 2, 4: 3, 10: 7, 19: 12}  # 2 t > n + floor(n / 5)
    assert topology(10, Threat(0.2, 0.1)).is_full
    assert topology(10, Threat(1 / 3, 0.1, active=False)).threshold == 4


@pytest.mark.parametrize(
    ("clients", "threat", "sentence"),
    [
        (3, Threat(0.4, 0.0), "at least 3 must be honest"),
        (10, Threat(0.2, 0.5), "7 of 10 clients are needed"),
        (10, Threat(0.2, 0.7, active=False), "4 of 10 clients are needed"),
        (100, Threat(0.5, 0.3), "no graph of 100 clients withstands"),
    ],
)
def test_what_cannot_be_withstood_is_refused(clients, threat, sentence):
    with pytest.raises(SecureSumError, match=sentence):
        topology(clients, threat)


@pytest.mark.parametrize("clients", [5, 24, 100])
def test_a_graph_is_regular_and_symmetric_and_depends_on_its_seed(clients):
    sizes = topology(clients, Threat(0.1, 0.1))
    graph, other = Graph(sizes, b"seed"), Graph(sizes, b"other")
    everyone = [graph.neighbours(u) for u in range(clients)]
    assert {len(found) for found in everyone} == {sizes.degree}
    assert all(u in everyone[v] and v != u for u in range(clients) for v in everyone[u])
    assert sizes.is_full == (everyone == [other.neighbours(u) for u in range(clients)])


def test_sealed_shares_are_bound_to_session_sender_and_receiver():
    a, b = keys.new_secret(), keys.new_secret()
    key = keys.agree(a, keys.public_key(b), b"s", b"share")
    assert key == keys.agree(b, keys.public_key(a), b"s", b"share") != keys.agree(b, keys.public_key(a), b"s", b"mask")
    sealed = keys.seal(key, b"shares", b"s", 1, 2)
    assert keys.unseal(key, sealed, b"s", 1, 2) == b"shares"
    for case in ((b"t", 1, 2), (b"s", 2, 2), (b"s", 1, 3)):
        with pytest.raises(SecureSumError, match="cannot be decrypted"):
            keys.unseal(key, sealed, *case)
    with pytest.raises(SecureSumError, match="degenerate"):
        keys.agree(a, bytes(32), b"s", b"share")


def test_signatures_are_of_the_authority_admitted_and_in_time(monkeypatch):
    one, check, signed = playing.identity(0), playing.checker(), digest("x", b"a", b"b")
    check.verify(one.certificate, signed, one.sign(signed))
    assert digest("x", b"ab", b"") != signed
    with pytest.raises(SecureSumError, match="is not valid for"):
        check.verify(one.certificate, digest("y", b"a", b"b"), one.sign(signed))
    stranger = Identity.of(certificates.issue("client 0", authority=certificates.issue("other")))
    with pytest.raises(SecureSumError, match="not one of the federation's authority"):
        check.verify(stranger.certificate, signed, stranger.sign(signed))
    der = playing.authority()[1].public_bytes(messages.keys.serialization.Encoding.DER)
    with pytest.raises(SecureSumError, match="not admitted"):
        Authority(der, {playing.identity(1).fingerprint}).verify(one.certificate, signed, one.sign(signed))
    expired = Identity.of(certificates.issue("late", days=0, authority=playing.authority()))
    time.sleep(1.1)  # certificates count in seconds
    with pytest.raises(SecureSumError, match="expired"):
        check.verify(expired.certificate, signed, expired.sign(signed))


def test_identities_are_read_from_the_directories_of_certificates(tmp_path):
    made = certificates.make_node_certificate(str(tmp_path), "hospital")
    one = Identity.load(made.directory)
    Authority.load(made.directory).verify(one.certificate, bytes(32), one.sign(bytes(32)))


EXAMPLES = (
    messages.AdvertiseKeys(b"c", b"m" * 32, b"s" * 32, b"x" * 70),
    messages.Roster((b"d" * 32,), (messages.AdvertiseKeys(b"c", b"m" * 32, b"s" * 32, b"x"),)),
    messages.ShareKeys(b"c" * 32, (1, 2**32 - 1), (b"x" * messages.SEALED_BYTES,) * 2),
    messages.SealedShares((), ()),
    messages.MaskedInput((b"", b"abc")),
    messages.Survivors((1, 2)),
    messages.SignSurvivors(b"s"),
    messages.Unmask((1,), (b"s",), (2, 3)),
    messages.UnmaskShares((1,), (b"s" * 36,)),
)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_messages_have_one_encoding_and_every_flipped_byte_shows(message):
    content = encode(message)
    assert decode(content) == message
    for cut in range(len(content)):
        with pytest.raises(MalformedMessageError):
            decode(content[:cut])
    with pytest.raises(MalformedMessageError, match="1 bytes follow"):
        decode(content + b"x")
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        try:
            assert decode(bytes(changed)) != message
        except MalformedMessageError:
            continue


def test_all_kinds_have_an_example():
    assert collections.Counter(map(type, EXAMPLES)) == collections.Counter(messages.KINDS)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.integers(0, 9), st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(kind, content):
    head = b"TSS" + bytes([messages.VERSION, kind])
    try:
        found = decode(head + content)
    except MalformedMessageError:
        return
    assert encode(found) == head + content


def test_another_version_is_named():
    content = bytearray(encode(messages.Survivors((1,))))
    content[3] = 2
    with pytest.raises(MalformedMessageError, match="version 2 of the protocol, and this is 1"):
        decode(bytes(content))


def test_terms_differ_in_everything_that_is_agreed():
    usual = playing.terms(5)
    others = {"run": "r", "round_num": 8, "model": b"n" * 32, "threat": Threat(), "most_clients": 6}
    others["vectors"] = (Vector("values", 5, 2**21),)
    digests = {dataclasses.replace(usual, **{name: value}).digest for name, value in others.items()}
    assert len(digests | {usual.digest}) == 1 + len(others)
