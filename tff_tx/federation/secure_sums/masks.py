"""Masks: streams of numbers modulo M from a key, by AES in counter mode."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tff_tx.federation.secure_sums.modular import Ring

KEY_BYTES = 32
_DOMAIN = b"tff_tx secure sums 1 mask"
_SPARE = 64


def mask(key: bytes, session: bytes, name: str, length: int, ring: Ring) -> np.ndarray:
    """The mask of a vector, words of `ring` [length], uniformly distributed modulo M to whoever lacks the key.

    The stream's key is HKDF-SHA256 of the key with (bit width, session, length, name): the same key never masks two
    vectors alike, nor two sessions.

    Args:
      key: 32 bytes.
      session: Digest of what the parties have agreed on.
      name: Of the vector, different within a session.
      length: Of the vector.
      ring: Of its numbers.
    """
    info = b"|".join([_DOMAIN, str(ring.bits).encode(), str(length).encode(), name.encode()])
    stream = Stream(HKDF(hashes.SHA256(), KEY_BYTES, salt=session, info=info).derive(key))
    return stream.numbers(length, ring)


class Stream:
    """AES-256-CTR over zeros, with a key that is used once."""

    def __init__(self, key: bytes):
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, length: int, dtype: np.dtype) -> np.ndarray:
        """The next words."""
        zeros = bytes(length * dtype.itemsize)
        # A new array, as what the cipher returns is read-only.
        out = np.empty(len(zeros) + 15, np.uint8)
        self._encryptor.update_into(zeros, out)
        return out[: len(zeros)].view(dtype.newbyteorder("<")).astype(dtype, copy=False)

    def numbers(self, length: int, ring: Ring) -> np.ndarray:
        """The next uniform numbers: all words modulo a power of two, else by rejection of those above a multiple."""
        if ring.is_power_of_two:
            return self.words(length, ring.dtype)
        most = 2 ** (8 * ring.dtype.itemsize)
        limit = most - most % ring.modulus
        found = np.empty(length, ring.dtype)
        done = 0
        while done < length:
            drawn = self.words(int((length - done) * most / limit) + _SPARE, ring.dtype)
            drawn = drawn[drawn < limit][: length - done] % ring.dtype.type(ring.modulus)
            found[done : done + len(drawn)] = drawn
            done += len(drawn)
        return found
