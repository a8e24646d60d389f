"""What hides identifiers: a point of a prime-order group times a secret, or a keyed hash."""

from __future__ import annotations

import concurrent.futures
import hashlib
import hmac
import os

import numpy as np

from tff_tx.core.errors import UserError
from tff_tx.federation.alignment.identifiers import POINT_BYTES

_DOMAIN = b"tff_tx alignment v1"
_TASK_POINTS = 512


class EllipticCurve:
    """Hash to the prime-order subgroup of edwards25519, and multiplication by a secret.

    h(x) is Elligator 2 of a hash of the identifier, times the cofactor; masked are h(x)^a, h(x)^ab, in any order of the
    secrets. Who has no secret of a mask cannot tell it from a random point (decisional Diffie-Hellman), nor try
    identifiers against it (Meadows 1986; Huberman, Franklin and Hogg 1999).

    Args:
      threads: Points are multiplied in as many threads; libsodium lets others run meanwhile.

    Raises:
      UserError: If pynacl is not installed.
    """

    name = "ecdh"

    def __init__(self, threads: int | None = None):
        try:
            from nacl import bindings, exceptions
        except ImportError:
            raise UserError(
                "private set intersection needs the package pynacl: install the extra `vertical`, or use keyed hashes."
            ) from None
        self._curve, self._error = bindings, exceptions.CryptoError
        self.use(os.urandom(64))
        self._threads = threads or len(os.sched_getaffinity(0))

    def use(self, secret: bytes) -> None:
        """Has points be multiplied by another secret, of 64 bytes."""
        self._secret = self._curve.crypto_core_ed25519_scalar_reduce(secret)

    def hash(self, identifier: bytes) -> bytes:
        """The point of an identifier, 32 bytes."""
        digest = hashlib.sha512(_DOMAIN + identifier).digest()
        return self._curve.crypto_core_ed25519_from_uniform(digest[:POINT_BYTES])

    def mask(self, points: np.ndarray) -> np.ndarray:
        """Points uint8 [n, 32] times the secret.

        Raises:
          UserError: If one is no point of the group, or the neutral one, which would stay what it is.
        """
        blocks = [points[start : start + _TASK_POINTS] for start in range(0, len(points), _TASK_POINTS)]
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            return np.frombuffer(b"".join(pool.map(self._mask_block, blocks)), np.uint8).reshape(-1, POINT_BYTES)

    def _mask_block(self, points):
        multiply, secret = self._curve.crypto_scalarmult_ed25519_noclamp, self._secret
        try:
            return b"".join(multiply(secret, point.tobytes()) for point in points)
        except (self._error, RuntimeError):
            raise UserError("a party sent what is no point of the group: it is rejected.") from None


class KeyedHash:
    """HMAC-SHA256 of identifiers under a secret that all parties share.

    It costs microseconds an identifier. Who has the key, each party included, can try identifiers against what others
    send.

    Args:
      key: At least 16 bytes.

    Raises:
      UserError: If the key is shorter.
    """

    name = "keyed"

    def __init__(self, key: bytes):
        if len(key) < 16:
            raise UserError(f"a key of {len(key)} bytes can be guessed: it must have at least 16, random ones.")
        self._key = key

    def use(self, secret: bytes) -> None:
        """The key alone hides hashes."""

    def hash(self, identifier: bytes) -> bytes:
        """The keyed hash of an identifier, 32 bytes."""
        return hmac.digest(self._key, _DOMAIN + identifier, "sha256")

    def mask(self, points: np.ndarray) -> np.ndarray:
        """Hashes as they are: the key hides them."""
        return points
