"""Sums of ciphertexts: clients encrypt under the key holder's public key, and an aggregator adds up without a key.

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
from tff_tx.federation.secure_sums.masks import KEY_BYTES
from tff_tx.federation.secure_sums.plaintexts import DEGREE, PLAIN, ciphertext_sizes, pad, to_limbs
from tff_tx.federation.secure_sums.terms import Terms

_SECURITY = sealapi.SEC_LEVEL_TYPE.TC128


@dataclasses.dataclass(frozen=True)
class PublicKey:
    """What clients and the aggregator get of the key holder, for one run.

    Attributes:
      context: TenSEAL's, with the public key.
      exchange: X25519 key that seeds of pads are sealed for.
      certificate: The key holder's, in DER.
      signature: Of both, and of the run.
    """

    context: bytes
    exchange: bytes
    certificate: bytes
    signature: bytes

    @classmethod
    def of(cls, context: tenseal.Context, secret: bytes, run: str, identity: Identity) -> PublicKey:
        """The public parts of a context and of an X25519 key, signed."""
        public = context.serialize(
            save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
        )
        bare = cls(public, keys.public_key(secret), identity.certificate, b"")
        return dataclasses.replace(bare, signature=identity.sign(bare._signed(run)))

    def checked(self, run: str, authority: Authority) -> tenseal.Context:
        """The context, which encrypts and adds.

        Args:
          run: Name of the run.
          authority: Certifies the key holder, and nobody else.

        Raises:
          SecureSumError: If the key holder has not signed it for this run, or its parameters are others.
        """
        authority.verify(self.certificate, self._signed(run), self.signature)
        try:
            context = tenseal.context_from(self.context)
        except (ValueError, RuntimeError) as error:
            raise SecureSumError("the key holder's public key cannot be read.") from error
        check_parameters(context)
        return context

    def _signed(self, run):
        return digest("public key", run.encode(), self.context, self.exchange)


def check_parameters(context: tenseal.Context) -> None:
    """Checks that a context has the degree and plain modulus of `plaintexts`, and 128 bits of security.

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
      least: Fewest clients of a sum that it agrees to be in.
      signature: Of terms, key, seed, content and this number.
    """

    certificate: bytes
    exchange: bytes
    sealed: bytes
    content: bytes
    least: int
    signature: bytes

    def check(self, terms: Terms, authority: Authority) -> None:
        """Raises a SecureSumError if the client did not sign this for these terms."""
        authority.verify(self.certificate, self._signed(terms), self.signature)

    def _signed(self, terms):
        least = str(self.least).encode()
        return digest("voucher", terms.digest, self.exchange, self.sealed, self.content, least)

    @classmethod
    def of(
        cls, terms: Terms, identity: Identity, exchange: bytes, sealed: bytes, content: bytes, least: int
    ) -> Voucher:
        """Of a client."""
        bare = cls(identity.certificate, exchange, sealed, content, least, b"")
        return dataclasses.replace(bare, signature=identity.sign(bare._signed(terms)))


def encrypt(
    terms: Terms,
    identity: Identity,
    public: PublicKey,
    authority: Authority,
    vectors: Sequence[np.ndarray],
    least: int = 2,
) -> tuple[Voucher, tuple[bytes, ...]]:
    """A client's numbers modulo M, padded and encrypted: its voucher, and ciphertexts.

    Args:
      terms: Of the sum.
      identity: The client's.
      public: The key holder's key.
      authority: Certifies the key holder.
      vectors: The numbers.
      least: Fewest clients of a sum that the client agrees to be in.

    Raises:
      SecureSumError: If the public key is not the key holder's, or a modulus is no power of two.
    """
    context, seed, secret = public.checked(terms.run, authority), os.urandom(KEY_BYTES), keys.new_secret()
    padded = []
    for vector, numbers in zip(terms.vectors, vectors):
        residues = to_limbs(terms, vector, vector.ring.reduced(vector.ring.of(numbers)).astype(np.uint64))
        PLAIN.add(residues, pad(terms, vector, seed))
        padded.append(residues)
    numbers = np.concatenate(padded).astype(np.int64)
    ciphertexts = tuple(
        tenseal.bfv_vector(context, numbers[i : i + DEGREE].tolist()).serialize()
        for i in range(0, len(numbers), DEGREE)
    )
    key = keys.agree(secret, public.exchange, terms.digest, b"pad")
    sealed = keys.seal(key, seed, terms.digest, 0, 0)
    return Voucher.of(terms, identity, keys.public_key(secret), sealed, _content(ciphertexts), least), ciphertexts


def load_vector(context: tenseal.Context, ciphertext: bytes) -> tenseal.BFVVector:
    """A ciphertext from its bytes; SecureSumError: they are none of this key."""
    try:
        return tenseal.bfv_vector_from(context, ciphertext)
    except (ValueError, RuntimeError, IndexError) as error:
        raise SecureSumError("a ciphertext cannot be read.") from error


class Aggregator:
    """Adds ciphertexts of one round, without a key.

    Args:
      terms: Of the sum.
      context: Of the key holder's key, checked.
      authority: Certifies the clients.
    """

    def __init__(self, terms: Terms, context: tenseal.Context, authority: Authority):
        self._terms, self._context, self._authority = terms, context, authority
        self._received: dict[bytes, tuple[Voucher, list[tenseal.BFVVector]]] = {}

    def receive(self, voucher: Voucher, ciphertexts: tuple[bytes, ...]) -> None:
        """Takes a contribution; a client's second one is refused, as is one that it has not signed, or that is none."""
        voucher.check(self._terms, self._authority)
        if voucher.content != _content(ciphertexts) or fingerprint(voucher.certificate) in self._received:
            raise SecureSumError("a client's ciphertexts are not those that it signed, or come twice.")
        loaded = [load_vector(self._context, ciphertext) for ciphertext in ciphertexts]
        if [vector.size() for vector in loaded] != ciphertext_sizes(self._terms):
            raise SecureSumError("a client's ciphertexts have another number of values.")
        self._received[fingerprint(voucher.certificate)] = voucher, loaded

    @property
    def clients(self) -> tuple[bytes, ...]:
        """Fingerprints of those received."""
        return tuple(self._received)

    def add(self, clients: Collection[bytes]) -> tuple[list[Voucher], list[bytes]]:
        """What the key holder is asked: who is in the sum, by fingerprints of those received, and its ciphertexts."""
        chosen = [self._received[mark] for mark in clients]
        sums = []
        for first, *rest in zip(*(ciphertexts for _, ciphertexts in chosen)):
            total = first.copy()
            for part in rest:
                total.add_(part)
            sums.append(total.serialize())
        return [voucher for voucher, _ in chosen], sums


def _content(ciphertexts):
    return hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in ciphertexts)).digest()
