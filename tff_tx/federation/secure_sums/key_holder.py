"""The key holder of sums of ciphertexts: it decrypts nothing but sums of enough clients, one of each round."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, MutableMapping, Sequence

import numpy as np
import tenseal
from tenseal import sealapi

from tff_tx.federation.secure_sums import keys
from tff_tx.federation.secure_sums.encryption import PublicKey, Voucher, check_parameters, load_vector
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.identities import Authority, Identity, digest, fingerprint
from tff_tx.federation.secure_sums.plaintexts import DEGREE, PLAIN, ciphertext_sizes, from_limbs, num_residues, pad
from tff_tx.federation.secure_sums.terms import Terms

_SECRET_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Decrypted:
    """Sums, and the key holder's signature of them.

    Attributes:
      terms: Digest of the terms.
      clients: Whose sums they are: fingerprints, sorted.
      sums: By vector, uint64 in [0, M).
      signature: Of terms, clients and sums.
    """

    terms: bytes
    clients: tuple[bytes, ...]
    sums: tuple[np.ndarray, ...]
    signature: bytes = b""

    @property
    def signed(self) -> bytes:
        """Digest of what the signature is of."""
        return digest("sums", self.terms, b"".join(self.clients), *(found.tobytes() for found in self.sums))


def check_sums(
    terms: Terms, clients: Collection[bytes], found: Decrypted, public: PublicKey, authority: Authority
) -> None:
    """Checks an answer of the key holder's.

    Args:
      terms: Of the sum.
      clients: Fingerprints of those that may be in it.
      found: The answer.
      public: The key holder's key.
      authority: Certifies the key holder.

    Raises:
      SecureSumError: If it is not the key holder's to these terms, or the sum is over others.
    """
    authority.verify(public.certificate, found.signed, found.signature)
    if found.terms != terms.digest or not set(found.clients) <= set(clients):
        raise SecureSumError("the key holder has decrypted another sum, or one of other clients.")
    if [len(numbers) for numbers in found.sums] != [vector.length for vector in terms.vectors]:
        raise SecureSumError("the key holder's sums are of other lengths.")


class KeyHolder:
    """Decrypts sums of enough clients, one of each round, and signs them; it sees no client's ciphertext.

    A round has one sum of each layout of vectors. Asked again in the same terms, it gives the same answer, whoever is
    named: nothing is decrypted twice, and whoever lost the answer has it.

    Args:
      identity: Its own.
      authority: Certifies the clients.
      least: Fewest clients of a sum: its own policy, which a client may raise.
      run: Name of the run that the key is for.
      secret: As of `secret`, to go on with the same key; None: a new one.
      answers: What it has answered, by question; a store that lasts, lest a key outlives what it was used for.
    """

    def __init__(
        self,
        identity: Identity,
        authority: Authority,
        least: int,
        run: str,
        secret: bytes | None = None,
        answers: MutableMapping[str, Decrypted] | None = None,
    ):
        self._identity, self._authority, self._least, self._run = identity, authority, max(2, least), run
        if secret is None:
            self._secret = keys.new_secret()
            self._context = tenseal.context(
                tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=DEGREE, plain_modulus=PLAIN.modulus
            )
        else:
            self._secret, self._context = secret[:_SECRET_BYTES], tenseal.context_from(secret[_SECRET_BYTES:])
        check_parameters(self._context)
        self._answers = {} if answers is None else answers

    @property
    def secret(self) -> bytes:
        """Both private keys, for a file that nobody else reads."""
        return self._secret + self._context.serialize(
            save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )

    @property
    def public(self) -> PublicKey:
        """What it publishes."""
        return PublicKey.of(self._context, self._secret, self._run, self._identity)

    def decrypt(self, terms: Terms, vouchers: Sequence[Voucher], ciphertexts: Sequence[bytes]) -> Decrypted:
        """The sums of the vectors over the clients that vouch for them.

        Raises:
          SecureSumError: If there are too few or too many, one is named twice, has not signed or wants more to be with
            it, the round has had another sum, or the ciphertexts are others than such a sum has.
        """
        question = _question(terms)
        if (known := self._answers.get(question)) is not None:
            if known.terms != terms.digest or not known.sums:
                raise SecureSumError(f"round {terms.round_num} of {terms.run} has had its sum.")
            return known
        names = self._checked(terms, vouchers)
        sums = self._unpadded(terms, vouchers, self._residues(terms, ciphertexts))
        found = Decrypted(terms.digest, names, sums)
        found = dataclasses.replace(found, signature=self._identity.sign(found.signed))
        self._answers[question] = found
        return found

    def _checked(self, terms, vouchers):
        """The fingerprints of who vouches, if it is for these terms and they are enough."""
        if terms.run != self._run:
            raise SecureSumError("a sum is of another run than the key.")
        names = tuple(sorted({fingerprint(voucher.certificate) for voucher in vouchers}))
        least = max([self._least, *(voucher.least for voucher in vouchers)])
        if len(names) < len(vouchers) or not least <= len(names) <= terms.most_clients:
            raise SecureSumError(
                f"a sum of {len(names)} clients, named {len(vouchers)} times, is not decrypted: it needs "
                f"{least} to {terms.most_clients}, each once."
            )
        for voucher in vouchers:
            voucher.check(terms, self._authority)
        return names

    def _residues(self, terms, ciphertexts):
        decryptor = sealapi.Decryptor(self._context.seal_context().data, self._context.secret_key().data)
        found = []
        loaded = [load_vector(self._context, ciphertext) for ciphertext in ciphertexts]
        if [vector.size() for vector in loaded] != ciphertext_sizes(terms):
            raise SecureSumError("the ciphertexts of a sum have another number of values.")
        for vector in loaded:
            if decryptor.invariant_noise_budget(vector.ciphertext()[0]) < 1:
                raise SecureSumError("a ciphertext has more noise than can be decrypted.")
            found.append(np.mod(np.array(vector.decrypt(), np.int64), PLAIN.modulus))
        return np.concatenate(found).astype(np.uint64)

    def _unpadded(self, terms, vouchers, residues):
        keyed = [keys.agree(self._secret, v.exchange, terms.digest, b"pad") for v in vouchers]
        seeds = [keys.unseal(key, v.sealed, terms.digest, 0, 0) for key, v in zip(keyed, vouchers)]
        sums, start = [], 0
        for vector in terms.vectors:
            part = residues[start : start + num_residues(terms, vector)]
            start += len(part)
            for seed in seeds:
                PLAIN.subtract(part, pad(terms, vector, seed))
            sums.append(from_limbs(terms, vector, part))
        return tuple(sums)


def _question(terms: Terms) -> str:
    """What has one answer: a round of a run, and which vectors are summed, as those of training and of evaluation."""
    vectors = json.dumps([dataclasses.astuple(vector) for vector in terms.vectors])
    return digest("question", terms.run.encode(), str(terms.round_num).encode(), vectors.encode()).hex()
