"""Envelopes: who sends what to whom, signed, and never twice.

A session is opened by both parties with fresh random bytes, so that nothing of an earlier one is of any use. Within it
each message has a number of its sender's own.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError

from tff_tx.federation.messages_pb2 import Chunk, Envelope, Header
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.identities import Authority, Identity, digest, fingerprint

MAJOR, MINOR = 1, 0
CHUNK_BYTES = 1 << 20
SESSION_BYTES = 16
_WINDOW = 64  # messages on their way at the same time may overtake one another
_MOST_HEADER = 1024
_ANYONE = fingerprint(b"")  # who joins does not know yet who listens

_REASONS = {"session": ": another connection, or another process, has joined with the same kit since"}

Payload = Sequence[bytes]
"""The bytes of a message, in pieces, some of which other messages share."""


def payload_digest(payload: Payload) -> bytes:
    """SHA-256 of a payload, 32 bytes."""
    found = hashlib.sha256()
    for piece in payload:
        found.update(piece)
    return found.digest()


class EnvelopeError(Exception):
    """A message that is rejected: one sentence on what is wrong with it."""


class Session:
    """One party's end of a session with another.

    Args:
      identity: Its own.
      authority: Who certifies the others.
      peer: The other's certificate, in DER.
      key: What both have agreed on, random.
      run: The digest of the plan; "" before it is known.
    """

    def __init__(self, identity: Identity, authority: Authority, peer: bytes, key: bytes, run: str = ""):
        self._identity, self._authority, self._peer = identity, authority, peer
        self.key, self.run = key, run
        self._numbers, self._seen, self._highest = itertools.count(1), set(), 0
        self._lock = threading.Lock()

    def seal(
        self, round_num: int, phase: str, payload: Payload = (), answered: bytes = b"", known: bytes | None = None
    ) -> Envelope:
        """The envelope of a message to the other.

        Args:
          round_num: The round.
          phase: What it is about.
          payload: Of the message.
          answered: `payload_digest` of the message that it answers.
          known: `payload_digest` of the message, where it has been found already.
        """
        with self._lock:
            number = next(self._numbers)
        header = Header(
            major=MAJOR,
            minor=MINOR,
            run=self.run,
            session=self.key,
            round=round_num,
            phase=phase,
            sequence=number,
            sender=self._identity.fingerprint,
            receiver=fingerprint(self._peer),
            payload_sha256=payload_digest(payload) if known is None else known,
            payload_bytes=sum(map(len, payload)),
            answers_sha256=answered,
        ).SerializeToString()
        return Envelope(header=header, signature=self._identity.sign(digest("envelope", header)))

    def open(self, envelope: Envelope) -> Header:
        """The header of a message of the other, to whose payload it still has to be compared, see `read`.

        Raises:
          EnvelopeError: If it is not the other's, not for this party or session, or has been here before.
        """
        header = parse_header(envelope)
        try:
            self._authority.verify(self._peer, digest("envelope", envelope.header), envelope.signature)
        except SecureSumError as error:
            raise EnvelopeError(str(error)) from None
        for name, found, wanted in (
            ("sender", header.sender, fingerprint(self._peer)),
            ("receiver", header.receiver, self._identity.fingerprint),
            ("session", header.session, self.key),
            ("run", header.run, self.run),
        ):
            if found != wanted and not (name == "receiver" and found == _ANYONE and not self.run):
                raise EnvelopeError(f"the {name} of a message is another{_REASONS.get(name, '')}.")
        with self._lock:
            if header.sequence in self._seen or header.sequence <= self._highest - _WINDOW:
                raise EnvelopeError(f"message {header.sequence} of the session has been here already.")
            self._highest = max(self._highest, header.sequence)
            self._seen = {n for n in self._seen if n > self._highest - _WINDOW} | {header.sequence}
        return header

    def chunks(
        self, round_num: int, phase: str, payload: Payload = (), answered: bytes = b"", known: bytes | None = None
    ) -> Iterator[Chunk]:
        """A message in chunks; arguments as of `seal`."""
        envelope = self.seal(round_num, phase, payload, answered, known)
        for piece in payload:
            for start in range(0, len(piece), CHUNK_BYTES):
                yield Chunk(envelope=envelope, data=piece[start : start + CHUNK_BYTES])
                envelope = None
        if envelope is not None:
            yield Chunk(envelope=envelope)

    def read(self, chunks: Iterable[Chunk], most_bytes: int) -> tuple[Header, bytes]:
        """A message of the other from its chunks; empty chunks before the first one are skipped.

        Raises:
          EnvelopeError: If `open` does, or the payload is not what the header says, or longer than `most_bytes`.
        """
        header, pieces, size, found = None, [], 0, hashlib.sha256()
        for chunk in chunks:
            if header is None:
                if not chunk.HasField("envelope"):
                    continue
                header = self.open(chunk.envelope)
                if header.payload_bytes > most_bytes:
                    raise EnvelopeError(f"a message of {header.payload_bytes} bytes is longer than {most_bytes}.")
            pieces.append(chunk.data)
            size += len(pieces[-1])
            if size > header.payload_bytes:
                break
            found.update(pieces[-1])
        if header is None:
            raise EnvelopeError("there is no message.")
        if size != header.payload_bytes or found.digest() != header.payload_sha256:
            raise EnvelopeError("the payload of a message is not the one that was signed.")
        return header, b"".join(pieces)


def parse_chunk(data: bytes) -> Chunk:
    """A chunk from its bytes.

    Raises:
      EnvelopeError: If it is none.
    """
    try:
        return Chunk.FromString(data)
    except DecodeError:
        raise EnvelopeError("a message is no chunk.") from None


def parse_header(envelope: Envelope) -> Header:
    """The header of an envelope, nothing of which is verified but its version.

    Raises:
      EnvelopeError: If it is none, or of another version.
    """
    try:
        if len(envelope.header) > _MOST_HEADER:
            raise DecodeError
        header = Header.FromString(envelope.header)
    except DecodeError:
        raise EnvelopeError("a message has no header.") from None
    if header.major != MAJOR:
        raise EnvelopeError(
            f"a message is of version {header.major}.{header.minor}, and this is {MAJOR}.{MINOR}: both ends need the "
            "same first number."
        )
    return header
