"""What a transport carries: calls of a participant to the coordinator, whose messages it hands on as they are.

`Service` answers them, `Link` makes them; neither knows how they travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.messages_pb2 import Chunk


class NotAdmittedError(EnvelopeError):
    """Who calls is not on the list of participants: another call would end as this one."""


class NotJoinedError(EnvelopeError):
    """Who calls has no session."""


class CallError(Exception):
    """A call that failed: one sentence.

    Attributes:
      is_final: Whether the coordinator does not admit who calls.
    """

    def __init__(self, words: str, is_final: bool = False):
        super().__init__(words)
        self.is_final = is_final


class Caller(Protocol):
    """A participant's connection, at the coordinator.

    Attributes:
      certificate: Of who calls, in DER; b"" where the transport does not know it: it is set by who joins.
    """

    certificate: bytes

    def is_active(self) -> bool:
        """Whether the caller is still there."""


class Calls(Protocol):
    """A participant's connection, at the participant; each raises `CallError`.

    Attributes:
      beat_seconds: How often the coordinator is told that a participant lives which has not answered yet.
    """

    beat_seconds: float

    def join(self, chunk: Chunk, timeout: float) -> Chunk:
        """Opens a session."""

    def receive(self, chunk: Chunk) -> Iterator[Chunk]:
        """The next message for the participant; empty chunks while there is none."""

    def send(self, chunks: Iterable[Chunk], timeout: float | None = None) -> Chunk:
        """Sends a message of the participant; gives its receipt."""
