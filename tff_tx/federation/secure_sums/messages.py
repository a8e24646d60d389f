"""The protocol's messages, and their bytes: canonical, bounded, and of one version.

A message is b"TSS", the version, the number of its kind, and its fields in order: numbers as 4 bytes, big-endian; bytes
with their length; lists with their number of items. There is one encoding of each message, nothing may follow it, and
no length is believed before it is compared with its bound and with the bytes that are there.
"""

from __future__ import annotations

import dataclasses
import struct
import typing

from tff_tx.federation.secure_sums import keys, shamir
from tff_tx.federation.secure_sums.errors import MalformedMessageError
from tff_tx.federation.secure_sums.graphs import MOST_CLIENTS

VERSION = 1
_MAGIC = b"TSS"
_MOST_CERTIFICATE, _MOST_SIGNATURE, _MOST_VECTORS = 4096, 80, 10_000
_MOST_VECTOR_BYTES = 2**31
SEALED_BYTES = keys.NONCE_BYTES + keys.TAG_BYTES + 2 * shamir.SHARE_BYTES


def _bytes(least: int, most: int | None = None):
    return dataclasses.field(metadata={"least": least, "most": least if most is None else most})


def _items(most: int = MOST_CLIENTS, least_bytes: int = 0, most_bytes: int = 0):
    return dataclasses.field(metadata={"items": most, "least": least_bytes, "most": most_bytes})


@dataclasses.dataclass(frozen=True)
class AdvertiseKeys:
    """R0, client to server: two fresh public keys, signed with the terms."""

    certificate: bytes = _bytes(1, _MOST_CERTIFICATE)
    mask_key: bytes = _bytes(keys.PUBLIC_BYTES)
    share_key: bytes = _bytes(keys.PUBLIC_BYTES)
    signature: bytes = _bytes(1, _MOST_SIGNATURE)


@dataclasses.dataclass(frozen=True)
class Roster:
    """R0, server to client: the digests of all advertisements, sorted, and the advertisements of its neighbours."""

    digests: tuple[bytes, ...] = _items(MOST_CLIENTS, 32, 32)
    neighbours: tuple[AdvertiseKeys, ...] = _items()


@dataclasses.dataclass(frozen=True)
class ShareKeys:
    """R1, client to server: a commitment to its self-mask's seed, and sealed shares for its neighbours."""

    commitment: bytes = _bytes(32)
    receivers: tuple[int, ...] = _items()
    sealed: tuple[bytes, ...] = _items(MOST_CLIENTS, SEALED_BYTES, SEALED_BYTES)


@dataclasses.dataclass(frozen=True)
class SealedShares:
    """R1, server to client: what its neighbours sealed for it."""

    senders: tuple[int, ...] = _items()
    sealed: tuple[bytes, ...] = _items(MOST_CLIENTS, SEALED_BYTES, SEALED_BYTES)


@dataclasses.dataclass(frozen=True)
class MaskedInput:
    """R2, client to server: its vectors, masked and packed."""

    vectors: tuple[bytes, ...] = _items(_MOST_VECTORS, 0, _MOST_VECTOR_BYTES)


@dataclasses.dataclass(frozen=True)
class Survivors:
    """R2, server to client: over whom the sum is taken."""

    clients: tuple[int, ...] = _items()


@dataclasses.dataclass(frozen=True)
class SignSurvivors:
    """R2.5, client to server: its signature of session and survivors."""

    signature: bytes = _bytes(1, _MOST_SIGNATURE)


@dataclasses.dataclass(frozen=True)
class Unmask:
    """R2.5, server to client: neighbours' signatures of the survivors, and its neighbours that dropped out."""

    signers: tuple[int, ...] = _items()
    signatures: tuple[bytes, ...] = _items(MOST_CLIENTS, 1, _MOST_SIGNATURE)
    dropped: tuple[int, ...] = _items()


@dataclasses.dataclass(frozen=True)
class UnmaskShares:
    """R3, client to server: of each neighbour one share, of its self-mask if it survived, else of its private key."""

    owners: tuple[int, ...] = _items()
    shares: tuple[bytes, ...] = _items(MOST_CLIENTS, shamir.SHARE_BYTES, shamir.SHARE_BYTES)


KINDS = (
    *(AdvertiseKeys, Roster, ShareKeys, SealedShares, MaskedInput, Survivors, SignSurvivors, Unmask, UnmaskShares),
)
_NUMBERS = {"receivers", "senders", "clients", "signers", "dropped", "owners"}
Message = typing.Union[KINDS]


def encode(message: Message) -> bytes:
    """A message as bytes."""
    return _MAGIC + bytes([VERSION, KINDS.index(type(message))]) + _encode(message)


def _encode(message) -> bytes:
    out = []
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        out.append(struct.pack(">I", len(value)))
        if isinstance(value, bytes):
            out.append(value)
        elif field.name in _NUMBERS:
            out.append(struct.pack(f">{len(value)}I", *value))
        else:
            for item in value:
                item = item if isinstance(item, bytes) else _encode(item)
                out += [struct.pack(">I", len(item)), item]
    return b"".join(out)


def decode(content: bytes) -> Message:
    """The message that bytes are.

    Raises:
      MalformedMessageError: If they are none, of another version, or beyond the bounds.
    """
    if content[:3] != _MAGIC or len(content) < 5:
        raise MalformedMessageError("these bytes are no message of a secure sum.")
    if content[3] != VERSION:
        raise MalformedMessageError(f"a message is of version {content[3]} of the protocol, and this is {VERSION}.")
    if content[4] >= len(KINDS):
        raise MalformedMessageError(f"a message is of the unknown kind {content[4]}.")
    return _decode(KINDS[content[4]], memoryview(content)[5:])


def _decode(kind, content):
    reader, values = _Reader(content), []
    for field in dataclasses.fields(kind):
        bounds = field.metadata
        if "items" not in bounds:
            values.append(reader.bytes(bounds["least"], bounds["most"]))
            continue
        number = reader.number()
        if number > bounds["items"] or 4 * number > reader.left:
            raise MalformedMessageError(f"a message has {number} {field.name}, more than it may or than follow.")
        if field.name in _NUMBERS:
            values.append(struct.unpack(f">{number}I", reader.take(4 * number)))
        elif field.name == "neighbours":
            values.append(tuple(_decode(AdvertiseKeys, reader.part(_MOST_ADVERTISEMENT)) for _ in range(number)))
        else:
            values.append(tuple(reader.bytes(bounds["least"], bounds["most"]) for _ in range(number)))
    if reader.left:
        raise MalformedMessageError(f"{reader.left} bytes follow a message.")
    return kind(*values)


_MOST_ADVERTISEMENT = _MOST_CERTIFICATE + _MOST_SIGNATURE + 2 * keys.PUBLIC_BYTES + 16


class _Reader:
    def __init__(self, content: memoryview):
        self._content, self._at = content, 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            raise MalformedMessageError("a message is cut off.")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self) -> int:
        return struct.unpack(">I", self.take(4))[0]

    def part(self, most: int, least: int = 0) -> memoryview:
        size = self.number()
        if not least <= size <= most:
            raise MalformedMessageError(f"a part of a message has {size} bytes, and {least} to {most} are allowed.")
        return self.take(size)

    def bytes(self, least: int, most: int) -> bytes:
        return bytes(self.part(most, least))
