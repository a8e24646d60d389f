"""Sums of ciphertexts: who adds them has no key, and who has the key decrypts nothing but sums of enough clients.

The BFV scheme (Fan and Vercauteren 2012, https://eprint.iacr.org/2012/144), by TenSEAL, on the whole numbers that masks
hide: the same sums, to the bit. Ciphertexts are malleable, so that an aggregator could pass a single client's for a
sum. Therefore a client adds a pad to its numbers before it encrypts them, and seals the pad's seed for the key holder,
who subtracts the pads of the clients that are named: of anything but the sum of all of these, noise is left.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Collection, Sequence

import numpy as np
import tenseal
from tenseal import sealapi

from tff_tx.federation.secure_sums import keys
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.identities import Authority, Identity, digest, fingerprint
from tff_tx.federation.secure_sums.masks import KEY_BYTES, mask
from tff_tx.federation.secure_sums.modular import Ring
from tff_tx.federation.secure_sums.terms import Terms, Vector

DEGREE = 4096
"""N: numbers of a ciphertext, whose coefficients have 109 bits in all, the most for 128 bits of security."""
PLAIN = Ring(sealapi.PlainModulus.Batching(DEGREE, 35).value())
"""Numbers modulo t, a prime of 35 bits with t = 1 modulo 2 N."""
_SECURITY = sealapi.SEC_LEVEL_TYPE.TC128


@dataclasses.dataclass(frozen=True)
class PublicKey:
    """What clients and the aggregator get of the key holder.

    Attributes:
      context: TenSEAL's, with the public key.
      exchange: X25519 key that seeds of pads are sealed for.
      certificate: The key holder's, in DER.
      signature: Of both.
    """

    context: bytes
    exchange: bytes
    certificate: bytes
    signature: bytes

    def checked(self, authority: Authority) -> tenseal.Context:
        """The context, which encrypts and adds.

        Raises:
          SecureSumError: If nobody of the federation signed it, or its parameters are others.
        """
        authority.verify(self.certificate, digest("public key", self.context, self.exchange), self.signature)
        context = tenseal.context_from(self.context)
        check_parameters(context)
        return context


def check_parameters(context: tenseal.Context) -> None:
    """Checks that a context has the degree and plain modulus of this module, and 128 bits of security.

    Raises:
      SecureSumError: If not.
    """
    parameters = context.seal_context().data.key_context_data().parms()
    bits = sum(modulus.bit_count() for modulus in parameters.coeff_modulus())
    most = sealapi.CoeffModulus.MaxBitCount(DEGREE, _SECURITY)
    found = parameters.poly_modulus_degree(), parameters.plain_modulus().value()
    if found != (DEGREE, PLAIN.modulus) or bits > most:
        raise SecureSumError(
            f"a key of degree {found[0]}, plain modulus {found[1]} and {bits} bits is none of degree {DEGREE}, plain "
            f"modulus {PLAIN.modulus} and {most} bits at most."
        )


@dataclasses.dataclass(frozen=True)
class Voucher:
    """A client's word that it contributed, and the seed of its pad.

    Attributes:
      certificate: The client's, in DER.
      exchange: X25519 key that the seed was sealed with.
      sealed: The seed, for the key holder.
      content: SHA-256 of the ciphertexts.
      signature: Of terms, key, seed and content.
    """

    certificate: bytes
    exchange: bytes
    sealed: bytes
    content: bytes
    signature: bytes

    def check(self, terms: Terms, authority: Authority) -> None:
        """Raises a SecureSumError if the client did not sign this for these terms."""
        authority.verify(self.certificate, self._signed(terms), self.signature)

    def _signed(self, terms):
        return digest("voucher", terms.digest, self.exchange, self.sealed, self.content)

    @classmethod
    def of(cls, terms: Terms, identity: Identity, exchange: bytes, sealed: bytes, content: bytes) -> Voucher:
        """Of a client."""
        bare = cls(identity.certificate, exchange, sealed, content, b"")
        return dataclasses.replace(bare, signature=identity.sign(bare._signed(terms)))


@dataclasses.dataclass(frozen=True)
class Decrypted:
    """Sums, and the key holder's signature of them.

    Attributes:
      sums: By vector, uint64 in [0, M).
      signature: Of terms, participants and sums.
    """

    sums: tuple[np.ndarray, ...]
    signature: bytes


def encrypt(
    terms: Terms, identity: Identity, public: PublicKey, authority: Authority, vectors: Sequence[np.ndarray]
) -> tuple[Voucher, tuple[bytes, ...]]:
    """A client's numbers modulo M, padded and encrypted: its voucher, and ciphertexts.

    Raises:
      SecureSumError: If the public key is not the federation's, or a modulus is no power of two.
    """
    context, seed, secret = public.checked(authority), os.urandom(KEY_BYTES), keys.new_secret()
    padded = []
    for vector, numbers in zip(terms.vectors, vectors):
        residues = _limbs(terms, vector, vector.ring.reduced(vector.ring.of(numbers)).astype(np.uint64))
        PLAIN.add(residues, _pad(terms, vector, seed))
        padded.append(residues)
    numbers = np.concatenate(padded).astype(np.int64)
    ciphertexts = tuple(
        tenseal.bfv_vector(context, numbers[i : i + DEGREE].tolist()).serialize()
        for i in range(0, len(numbers), DEGREE)
    )
    key = keys.agree(secret, public.exchange, terms.digest, b"pad")
    sealed = keys.seal(key, seed, terms.digest, 0, 0)
    return Voucher.of(terms, identity, keys.public_key(secret), sealed, _content(ciphertexts)), ciphertexts


class Aggregator:
    """Adds ciphertexts of one round, without a key."""

    def __init__(self, terms: Terms, public: PublicKey, authority: Authority):
        self._terms, self._authority, self._context = terms, authority, public.checked(authority)
        self._received: dict[bytes, tuple[Voucher, tuple[bytes, ...]]] = {}

    def receive(self, voucher: Voucher, ciphertexts: tuple[bytes, ...]) -> None:
        """Takes a contribution; a client's second one is refused, as is one that it has not signed."""
        voucher.check(self._terms, self._authority)
        if voucher.content != _content(ciphertexts) or fingerprint(voucher.certificate) in self._received:
            raise SecureSumError("a client's ciphertexts are not those that it signed, or come twice.")
        self._received[fingerprint(voucher.certificate)] = voucher, ciphertexts

    def add(self, clients: Collection[bytes]) -> tuple[list[Voucher], list[bytes]]:
        """What the key holder is asked: who is in the sum, by fingerprints of those received, and its ciphertexts."""
        chosen = [self._received[mark] for mark in clients]
        sums = []
        for parts in zip(*(ciphertexts for _, ciphertexts in chosen)):
            total = tenseal.bfv_vector_from(self._context, parts[0])
            for part in parts[1:]:
                total.add_(tenseal.bfv_vector_from(self._context, part))
            sums.append(total.serialize())
        return [voucher for voucher, _ in chosen], sums


class KeyHolder:
    """Decrypts sums of enough clients, one of each round, and signs them; it sees no client's ciphertext.

    Args:
      identity: Its own.
      authority: Certifies the clients.
      least: Fewest clients of a sum: its own policy.
    """

    def __init__(self, identity: Identity, authority: Authority, least: int):
        self._identity, self._authority, self._least = identity, authority, max(2, least)
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=DEGREE, plain_modulus=PLAIN.modulus
        )
        check_parameters(self._context)
        self._secret, self._answered = keys.new_secret(), set()

    @property
    def public(self) -> PublicKey:
        """What it publishes."""
        context = self._context.serialize(
            save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
        )
        exchange = keys.public_key(self._secret)
        signature = self._identity.sign(digest("public key", context, exchange))
        return PublicKey(context, exchange, self._identity.certificate, signature)

    def decrypt(self, terms: Terms, vouchers: Sequence[Voucher], ciphertexts: Sequence[bytes]) -> Decrypted:
        """The sums of the vectors over the clients that vouch for them.

        Raises:
          SecureSumError: If there are too few or too many, one is named twice or has not signed, the round has had its
            sum, or the ciphertexts are others than such a sum has.
        """
        names = sorted({fingerprint(voucher.certificate) for voucher in vouchers})
        if len(names) < len(vouchers) or not self._least <= len(names) <= terms.most_clients:
            raise SecureSumError(
                f"a sum of {len(names)} clients, named {len(vouchers)} times, is not decrypted: it needs "
                f"{self._least} to {terms.most_clients}, each once."
            )
        if (terms.run, terms.round_num) in self._answered:
            raise SecureSumError(f"round {terms.round_num} of {terms.run} has had its sum.")
        for voucher in vouchers:
            voucher.check(terms, self._authority)
        self._answered.add((terms.run, terms.round_num))
        sums = self._unpadded(terms, vouchers, self._residues(ciphertexts))
        signed = digest("sums", terms.digest, b"".join(names), *(s.tobytes() for s in sums))
        return Decrypted(sums, self._identity.sign(signed))

    def _residues(self, ciphertexts):
        decryptor = sealapi.Decryptor(self._context.seal_context().data, self._context.secret_key().data)
        found = []
        for ciphertext in ciphertexts:
            vector = tenseal.bfv_vector_from(self._context, ciphertext)
            if decryptor.invariant_noise_budget(vector.ciphertext()[0]) < 1:
                raise SecureSumError("a ciphertext has more noise than can be decrypted.")
            found.append(np.mod(np.array(vector.decrypt(), np.int64), PLAIN.modulus))
        return np.concatenate(found).astype(np.uint64)

    def _unpadded(self, terms, vouchers, residues):
        keyed = [keys.agree(self._secret, v.exchange, terms.digest, b"pad") for v in vouchers]
        seeds = [keys.unseal(key, v.sealed, terms.digest, 0, 0) for key, v in zip(keyed, vouchers)]
        sums, start = [], 0
        for vector in terms.vectors:
            part = residues[start : start + vector.length * _num_limbs(terms, vector)]
            start += len(part)
            for seed in seeds:
                PLAIN.subtract(part, _pad(terms, vector, seed))
            sums.append(_joined(terms, vector, part))
        return tuple(sums)


def check_sums(terms: Terms, clients: Collection[bytes], found: Decrypted, public: PublicKey, authority: Authority):
    """Checks that the key holder signed the sums of these clients, by fingerprints; SecureSumError: it did not."""
    names = b"".join(sorted(clients))
    signed = digest("sums", terms.digest, names, *(s.tobytes() for s in found.sums))
    authority.verify(public.certificate, signed, found.signature)


def _content(ciphertexts):
    return hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in ciphertexts)).digest()


def _limb_bits(terms: Terms) -> int:
    """w, with n (2^w - 1) < t for the most clients n: no sum of limbs wraps around."""
    return (PLAIN.modulus // terms.most_clients).bit_length() - 1


def _num_limbs(terms: Terms, vector: Vector) -> int:
    if not vector.ring.is_power_of_two:
        raise SecureSumError(f"numbers modulo {vector.modulus} are not encrypted: the modulus is no power of two.")
    return -(-vector.ring.bits // _limb_bits(terms))


def _limbs(terms, vector, numbers):
    """Digits to the base 2^w, the lowest first: uint64 [limbs * length]."""
    bits, each = _limb_bits(terms), np.uint64(2 ** _limb_bits(terms) - 1)
    return np.concatenate([(numbers >> np.uint64(bits * i)) & each for i in range(_num_limbs(terms, vector))])


def _joined(terms, vector, sums):
    """The number modulo M whose digits' sums are given; what is beyond 2^64 is beyond M."""
    rows = sums.reshape(_num_limbs(terms, vector), vector.length)
    total = np.zeros(vector.length, np.uint64)
    for i, row in enumerate(rows):
        total += row << np.uint64(_limb_bits(terms) * i)
    return total & np.uint64(vector.modulus - 1)


def _pad(terms, vector, seed):
    return mask(seed, terms.digest, vector.name, vector.length * _num_limbs(terms, vector), PLAIN)
