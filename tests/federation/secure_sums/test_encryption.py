"""Sums of ciphertexts: those of masks to the bit, and what aggregator and key holder alone can have of one client."""

import dataclasses

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization

from tests.federation.secure_sums.playing import checker, identity, inputs, terms
from tff_tx.federation.secure_sums import Authority, SecureSumError, Vector

tenseal = pytest.importorskip("tenseal")
from tff_tx.federation.secure_sums import encryption, plaintexts  # noqa: E402 -- needs tenseal
from tff_tx.federation.secure_sums.key_holder import KeyHolder, check_sums  # noqa: E402

VECTORS = (Vector("values", 5000, 2**20), Vector("figures", 7, 2**62), Vector("fine", 9, 2**30))
CLIENTS = 4


@pytest.fixture(scope="module")
def holder():
    return KeyHolder(identity(99), checker(), 3, "run")


@pytest.fixture(scope="module")
def public(holder):
    return holder.public


def agreed(round_num, vectors=VECTORS, clients=CLIENTS):
    return dataclasses.replace(terms(clients, vectors), round_num=round_num)


def sent(public, found, number):
    return encryption.encrypt(found, identity(number), public, checker(), inputs(number, found.vectors))


def aggregated(public, found, numbers):
    aggregator = encryption.Aggregator(found, public.checked("run", checker()), checker())
    for number in range(CLIENTS):
        aggregator.receive(*sent(public, found, number))
    return aggregator.add([identity(number).fingerprint for number in numbers])


def expected(found, numbers):
    columns = zip(*(inputs(number, found.vectors) for number in numbers))
    return [sum(each.astype(object) for each in c) % v.modulus for c, v in zip(columns, found.vectors)]


@pytest.mark.parametrize("numbers", [range(CLIENTS), (0, 1, 3)])
def test_sums_are_those_of_plain_arithmetic_to_the_bit(holder, public, numbers):
    found = agreed(1 + len(numbers))
    decrypted = holder.decrypt(found, *aggregated(public, found, numbers))
    for got, want in zip(decrypted.sums, expected(found, numbers)):
        assert got.tolist() == want.tolist()
    marks = [identity(number).fingerprint for number in numbers]
    check_sums(found, marks, decrypted, public, checker())
    assert decrypted.clients == tuple(sorted(marks))
    for others, terms_ in ((marks[1:], found), (marks, agreed(99))):
        with pytest.raises(SecureSumError, match="another sum, or one of other clients"):
            check_sums(terms_, others, decrypted, public, checker())
    more = (decrypted.sums[0] + np.uint64(1), *decrypted.sums[1:])
    for changed in ({"sums": more}, {"clients": decrypted.clients[1:]}, {"terms": bytes(32)}):
        with pytest.raises(SecureSumError, match="signature"):
            check_sums(found, marks, dataclasses.replace(decrypted, **changed), public, checker())


@pytest.mark.parametrize("clients", [2, 1000, 2**14])
def test_sums_of_the_largest_numbers_do_not_overflow(clients):
    """By construction: n (2^w - 1) < t, and sums of limbs are joined again."""
    for modulus in (2, 2**20, 2**62):
        vector = Vector("v", 1, modulus)
        found = agreed(1, (vector,), clients)
        largest = np.array([modulus - 1], np.uint64)
        limbs = plaintexts.to_limbs(found, vector, largest)
        assert clients * int(limbs.max()) < plaintexts.PLAIN.modulus
        joined = plaintexts.from_limbs(found, vector, limbs * np.uint64(clients))
        assert int(joined[0]) == clients * (modulus - 1) % modulus


def test_parameters_are_of_128_bits_and_others_are_refused(holder):
    encryption.check_parameters(holder._context)
    coarse = tenseal.context(tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=4096, plain_modulus=1032193)
    with pytest.raises(SecureSumError, match="plain modulus 1032193"):
        encryption.check_parameters(coarse)


SMALL = (Vector("values", 40, 2**20),)


def test_the_aggregator_has_no_key_and_sees_no_client_twice_alike(public):
    found = agreed(10, SMALL)
    context = tenseal.context_from(public.context)
    assert not context.has_secret_key()
    voucher, ciphertexts = sent(public, found, 0)
    with pytest.raises(ValueError, match="secret_key"):
        tenseal.bfv_vector_from(context, ciphertexts[0]).decrypt()
    assert sent(public, found, 0)[1] != ciphertexts
    with pytest.raises(SecureSumError, match="cannot be decrypted"):
        encryption.keys.unseal(bytes(32), voucher.sealed, found.digest, 0, 0)


def test_the_key_holder_is_asked_twice(holder, public):
    """It gives the same answer, whoever is named: the difference of two sums would be a client."""
    found = agreed(11, SMALL)
    first = holder.decrypt(found, *aggregated(public, found, range(CLIENTS)))
    for numbers in (range(CLIENTS), (0, 1, 2), (0,)):
        again = holder.decrypt(found, *aggregated(public, found, numbers))
        assert again.clients == first.clients
        np.testing.assert_array_equal(again.sums, first.sums)
    other = dataclasses.replace(found, model=b"o" * 32)
    with pytest.raises(SecureSumError, match="round 11 of run has had its sum"):
        holder.decrypt(other, *aggregated(public, other, range(CLIENTS)))


def test_a_key_holder_that_starts_again_has_its_key_and_its_answers(public):
    answers, found = {}, agreed(17, SMALL)
    before = KeyHolder(identity(99), checker(), 3, "run", answers=answers)
    given = before.decrypt(found, *aggregated(before.public, found, range(CLIENTS)))
    after = KeyHolder(identity(99), checker(), 3, "run", before.secret, answers)
    assert after.decrypt(found, [], []) is given
    later = agreed(18, SMALL)
    decrypted = after.decrypt(later, *aggregated(before.public, later, range(CLIENTS)))
    assert decrypted.sums[0].tolist() == expected(later, range(CLIENTS))[0].tolist()


def test_the_key_holder_is_asked_for_a_single_client(holder, public):
    found = agreed(12, SMALL)
    vouchers, ciphertexts = aggregated(public, found, [0])
    for named in (vouchers, vouchers * 3):
        with pytest.raises(SecureSumError, match="it needs 3 to 4, each once"):
            holder.decrypt(found, named, ciphertexts)


def test_a_single_clients_ciphertext_passed_for_a_sum_is_noise(holder, public):
    """With everybody's vouchers the key holder subtracts all pads, and only their sum has them."""
    found = agreed(13, SMALL)
    everybody, _ = aggregated(public, found, range(CLIENTS))
    _, single = aggregated(public, found, [0])
    got = holder.decrypt(found, everybody, single).sums[0]
    mine = inputs(0, found.vectors)[0]
    assert np.count_nonzero(got.astype(np.int64) == mine) <= 2
    # Uniform: no multiple of it, and no shift.
    assert len(set((got.astype(np.int64) - mine) % 2**20)) > 35


def test_who_is_not_of_the_federation_or_of_another_round_vouches_for_nothing(holder, public):
    found, other = agreed(14, SMALL), agreed(15, SMALL)
    vouchers, ciphertexts = aggregated(public, found, range(CLIENTS))
    with pytest.raises(SecureSumError, match="signature"):
        holder.decrypt(other, vouchers, ciphertexts)
    admitted = Authority(checker()._authority.public_bytes(serialization.Encoding.DER), [identity(99).fingerprint])
    strict = KeyHolder(identity(99), admitted, 3, "run")
    with pytest.raises(SecureSumError, match="not admitted"):
        strict.decrypt(found, vouchers, ciphertexts)
    aggregator = encryption.Aggregator(found, public.checked("run", checker()), checker())
    voucher, own = sent(public, found, 0)
    aggregator.receive(voucher, own)
    for wrong in ((voucher, own), (sent(public, found, 1)[0], own)):
        with pytest.raises(SecureSumError, match="not those that it signed, or come twice"):
            aggregator.receive(*wrong)


def test_a_key_of_the_aggregators_own_is_refused(public):
    stranger = dataclasses.replace(public, exchange=encryption.keys.public_key(encryption.keys.new_secret()))
    with pytest.raises(SecureSumError, match="signature"):
        sent(stranger, agreed(16, SMALL), 0)
    with pytest.raises(SecureSumError, match="signature"):
        sent(public, dataclasses.replace(agreed(16, SMALL), run="another plan"), 0)


def test_ciphertexts_that_are_none_are_refused_where_they_come_in(holder, public):
    found, context = agreed(19, SMALL), public.checked("run", checker())
    aggregator = encryption.Aggregator(found, context, checker())
    few = tenseal.bfv_vector(context, [1, 2]).serialize()
    for pieces in ((b"noise",), (), (few,), (few, few)):
        content = encryption._content(pieces)
        voucher = encryption.Voucher.of(found, identity(0), bytes(32), b"", content, 2)
        with pytest.raises(SecureSumError, match="cannot be read|another number of values"):
            aggregator.receive(voucher, pieces)
    vouchers, _ = aggregated(public, found, range(CLIENTS))
    for pieces in ([b"noise"], [], [few]):
        with pytest.raises(SecureSumError, match="cannot be read|another number of values"):
            holder.decrypt(found, vouchers, pieces)


def test_a_client_may_want_more_to_be_with_it(holder, public):
    found = agreed(20, SMALL)
    aggregator = encryption.Aggregator(found, public.checked("run", checker()), checker())
    for number in range(CLIENTS):
        mine = inputs(number, found.vectors)
        least = 4 if number == 2 else 2
        aggregator.receive(*encryption.encrypt(found, identity(number), public, checker(), mine, least))
    with pytest.raises(SecureSumError, match="it needs 4 to 4, each once"):
        holder.decrypt(found, *aggregator.add([identity(n).fingerprint for n in (0, 1, 2)]))
    assert len(holder.decrypt(found, *aggregator.add([identity(n).fingerprint for n in (0, 1, 3)])).clients) == 3
