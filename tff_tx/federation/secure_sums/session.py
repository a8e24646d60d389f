"""What all parties of a session compute alike: digests that are signed, and the masks of a client."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np

from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.identities import digest
from tff_tx.federation.secure_sums.masks import mask
from tff_tx.federation.secure_sums.messages import AdvertiseKeys
from tff_tx.federation.secure_sums.terms import Terms, Vector

MASKS, SHARES = b"mask", b"share"
"""Purposes of agreed keys."""


def keys_digest(terms: Terms, mask_key: bytes, share_key: bytes) -> bytes:
    """What a client signs of its keys."""
    return digest("keys", terms.digest, mask_key, share_key)


def advertisement_digest(message: AdvertiseKeys) -> bytes:
    """By which a client is in the roster."""
    return digest("advertisement", message.certificate, message.mask_key, message.share_key, message.signature)


def roster_digest(digests: Sequence[bytes]) -> bytes:
    """Of all clients' keys, in order: the seed of the graph."""
    return digest("roster", *digests)


def session_digest(terms: Terms, roster: bytes) -> bytes:
    """What every key of the session is derived with: keys, run, round, broadcast model and configuration.

    Clients that were given different models (Pasquini et al. 2021, https://arxiv.org/abs/2111.07380) derive different
    masks, which do not cancel.
    """
    return digest("session", terms.digest, roster)


def survivors_digest(session: bytes, clients: Sequence[int]) -> bytes:
    """What a client signs of the survivors."""
    return digest("survivors", session, struct.pack(f">{len(clients)}I", *clients))


def commitment(session: bytes, seed: bytes) -> bytes:
    """To the seed of a self-mask, which has 256 random bits."""
    return digest("seed", session, seed)


@dataclasses.dataclass(frozen=True)
class Masker:
    """A client's masks of one session: its own, and those with its neighbours. It pickles.

    Attributes:
      vectors: What is masked.
      session: Digest of the session.
      seed: Of the self-mask.
      pairs: Keys in common with neighbours, and whether their masks are added, or else subtracted.
    """

    vectors: tuple[Vector, ...]
    session: bytes
    seed: bytes
    pairs: tuple[tuple[bytes, bool], ...]

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Masks whole numbers, one vector [length] each; gives numbers in [0, M).

        Raises:
          SecureSumError: If they are not of the lengths that are agreed.
        """
        if [np.shape(values) for values in inputs] != [(vector.length,) for vector in self.vectors]:
            raise SecureSumError("the vectors to be summed are not of the lengths that were agreed.")
        masked = []
        for vector, values in zip(self.vectors, inputs):
            ring = vector.ring
            words = ring.of(values)
            for key, added in ((self.seed, True), *self.pairs):
                apply = ring.add if added else ring.subtract
                apply(words, mask(key, self.session, vector.name, vector.length, ring))
            masked.append(ring.reduced(words))
        return masked
