"""The sum of what feature parties send, without what each of them sends: masks that cancel between pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from cryptography import x509

from tff_tx.core import certificates
from tff_tx.core.errors import UserError
from tff_tx.federation.secure_sums import keys
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.identities import Authority, Identity, digest
from tff_tx.federation.secure_sums.masks import mask
from tff_tx.federation.secure_sums.modular import Ring

_RING = Ring(2**32)
_SCALE = 2.0**20
_RANGE = 2.0**31 / _SCALE


class PartyMasks:
    """One party's masks: x becomes round(2^20 x) plus or minus, modulo 2^32, a mask for each other party.

    The secure sum of Bonawitz et al. 2017 (https://eprint.iacr.org/2017/281, section 4.0.1) without shares, as a step
    needs all parties anyway. Pairs agree on keys by X25519, through the label party, which over a connection cannot
    put keys of its own in: they are signed by the parties' certificates. Each message has masks of its own, by the
    number of messages so far, which is the same at all. Whoever receives them learns the sum, unless it colludes with
    all feature parties but one.

    Args:
      name: The party.
      parties: All feature parties, two or more.
      identity: Its certificate; None: parties are in one process, and keys are not signed.
      authority: Checks the others' certificates.
    """

    def __init__(
        self,
        name: str,
        parties: Sequence[str],
        identity: Identity | None = None,
        authority: Authority | None = None,
    ):
        self._name, self._parties, self._identity, self._authority = name, sorted(parties), identity, authority
        self._secret, self._keys, self._sent, self._session = b"", {}, 0, b""

    def offer(self) -> dict[str, str]:
        """A new public key, for all others; ends what was agreed before."""
        self._secret, self._keys, self._sent = keys.new_secret(), {}, 0
        public = keys.public_key(self._secret)
        found = {"public": public.hex()}
        if self._identity is not None:
            signature = self._identity.sign(_signed(self._name, public))
            found |= {"certificate": self._identity.certificate.hex(), "signature": signature.hex()}
        return found

    def agree(self, offers: Mapping[str, Mapping[str, str]]) -> None:
        """Agrees with all others.

        Raises:
          UserError: If a key is missing, not signed by the party that it is said to be of, or degenerate.
        """
        if sorted(offers) != self._parties or not self._secret:
            raise UserError(f"the keys of the secure sum are not those of {', '.join(self._parties)}.")
        try:
            publics = {name: bytes.fromhex(offer["public"]) for name, offer in offers.items()}
            for name, offer in offers.items():
                self._check(name, publics[name], offer)
            self._session = digest("vertical session", *(publics[name] for name in self._parties))
            others = [name for name in self._parties if name != self._name]
            self._keys = {n: keys.agree(self._secret, publics[n], self._session, b"vertical") for n in others}
        except (SecureSumError, KeyError, ValueError, TypeError) as error:
            raise UserError(f"the keys of the secure sum are rejected ({error}).") from None

    def _check(self, name, public, offer):
        if name == self._name:
            if public != keys.public_key(self._secret):
                raise SecureSumError(f"that of {name} is another")
        elif self._authority is not None:
            certificate = bytes.fromhex(offer["certificate"])
            self._authority.verify(certificate, _signed(name, public), bytes.fromhex(offer["signature"]))
            if certificates.name_of(x509.load_der_x509_certificate(certificate)) != name:
                raise SecureSumError(f"that of {name} is signed by another")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Masks float32 values of any shape: uint32 of the same.

        Raises:
          UserError: If no keys were agreed on, or a value is too large for the sum.
        """
        if not self._keys:
            raise UserError("no keys of the secure sum were agreed on: give the label party's command again.")
        if not np.abs(values).max(initial=0.0) < _RANGE / len(self._parties):
            raise UserError(f"activations are above {_RANGE / len(self._parties):g}, for a secure sum: clip them.")
        total = _RING.of(np.rint(values.ravel().astype(np.float64) * _SCALE).astype(np.int64))
        for name, key in self._keys.items():
            words = mask(key, self._session, str(self._sent), total.size, _RING)
            (_RING.add if self._name < name else _RING.subtract)(total, words)
        self._sent += 1
        return total.reshape(values.shape)


def unmasked_sum(masked: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of all parties' values, float32, of what each one's `PartyMasks` gave."""
    return (np.sum(masked, axis=0, dtype=np.uint32).view(np.int32) / _SCALE).astype(np.float32)


def _signed(name, public):
    return digest("vertical key", name.encode(), public)
