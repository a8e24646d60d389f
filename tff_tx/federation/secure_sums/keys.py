"""Keys of two clients: agreement by X25519, and authenticated encryption of what one sends the other."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tff_tx.federation.secure_sums.errors import SecureSumError

PUBLIC_BYTES = 32
NONCE_BYTES, TAG_BYTES = 12, 16


def new_secret() -> bytes:
    """A private key, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(secret: bytes) -> bytes:
    """The public key of a private one, 32 bytes."""
    key = X25519PrivateKey.from_private_bytes(secret)
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def agree(secret: bytes, public: bytes, session: bytes, purpose: bytes) -> bytes:
    """The key that two clients have in common in a session, 32 bytes: HKDF-SHA256 of the X25519 secret.

    Raises:
      SecureSumError: If the other's key is degenerate.
    """
    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise SecureSumError("a public key is degenerate.") from error
    return HKDF(hashes.SHA256(), 32, salt=session, info=b"tff_tx secure sums 1 " + purpose).derive(shared)


def seal(key: bytes, content: bytes, session: bytes, sender: int, receiver: int) -> bytes:
    """Encrypts by AES-256-GCM with a random nonce; session, sender and receiver are authenticated along."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, _associated(session, sender, receiver))


def unseal(key: bytes, sealed: bytes, session: bytes, sender: int, receiver: int) -> bytes:
    """Decrypts what `seal` gave.

    Raises:
      SecureSumError: If it was made with another key, or for another session, sender or receiver.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(session, sender, receiver))
    except (InvalidTag, ValueError) as error:
        raise SecureSumError(f"the shares of client {sender} cannot be decrypted.") from error


def _associated(session, sender, receiver):
    return session + sender.to_bytes(4, "big") + receiver.to_bytes(4, "big")
