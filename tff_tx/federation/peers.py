"""Participants as the coordinator knows them: who is there, what each is asked, and what came in."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tff_tx.core import certificates
from tff_tx.federation import contents
from tff_tx.federation.envelopes import Payload, Session
from tff_tx.federation.messages_pb2 import Header

_OFTEN, _OFTEN_SECONDS = 4, 60


@dataclasses.dataclass(frozen=True)
class Request:
    """A message that awaits an answer, `since` when; `digest` is that of its payload."""

    round_num: int
    phase: str
    payload: Payload
    digest: bytes
    since: float = 0.0


@dataclasses.dataclass
class Peer:
    """A participant; all fields change under the lock of `Peers`.

    Attributes:
      asked: Notified when there is a request, as a call of the participant may wait for it. If calls waited for
        `Peers.changed`, each answer of one participant would wake those of all.
    """

    name: str
    asked: threading.Condition
    session: Session | None = None
    is_ready: bool = False
    refusal: str = ""
    certificate: bytes = b""
    last_seen: float = 0.0
    request: Request | None = None
    answer: bytes | None = None
    answered: float = 0.0
    receiving: Any = None
    joined: list[float] = dataclasses.field(default_factory=list)
    sending: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def ask(self, request: Request) -> None:
        """Has the participant sent a message."""
        self.request, self.answer = request, None
        self.asked.notify_all()


class Peers:
    """All participants by name. Their own threads change them, and the coordinator's waits for it.

    Attributes:
      changed: Held by whoever changes something, and notified.

    Args:
      names: Of those that take part.
    """

    def __init__(self, names: Sequence[str]):
        lock = threading.RLock()
        self.changed, self._closing = threading.Condition(lock), False
        self._peers = {name: Peer(name, threading.Condition(lock)) for name in names}

    @property
    def closing(self) -> bool:
        """Whether the coordinator ends."""
        return self._closing

    @closing.setter
    def closing(self, value: bool) -> None:
        self._closing = value
        for peer in self._peers.values():
            peer.asked.notify_all()

    def __getitem__(self, name: str) -> Peer:
        return self._peers[name]

    def __contains__(self, name: Any) -> bool:
        return name in self._peers

    def __iter__(self) -> Iterator[str]:
        return iter(self._peers)

    def join(self, name: str, certificate: bytes, session: Session) -> None:
        """Begins a participant's session, in place of its last one."""
        with self.changed:
            peer, now = self[name], time.monotonic()
            peer.joined = [*(when for when in peer.joined if when > now - _OFTEN_SECONDS), now]
            if len(peer.joined) >= _OFTEN:
                logging.warning(
                    "%s has joined %d times within %d s: two processes have its kit, of which one must end, or its "
                    "process or connection ends again and again.",
                    *(name, _OFTEN, _OFTEN_SECONDS),
                )
                peer.joined = []
            peer.session, peer.certificate, peer.last_seen = session, certificate, now
            peer.sending = threading.Lock()  # a call of the last connection may not have ended
            peer.asked.notify_all()  # it ends then
            self.changed.notify_all()

    def take(self, peer: Peer, header: Header, payload: bytes) -> None:
        """Counts the answer to what is asked, once; another, as to an attempt that was given up, is a sign of life."""
        with self.changed:
            peer.last_seen = time.monotonic()
            request = peer.request
            if header.phase in ("ready", "refuse"):
                peer.is_ready = header.phase == "ready"
                peer.refusal = str(contents.unpack(payload)[0].get("error", "")) if payload else ""
                if not peer.is_ready:
                    logging.warning("%s does not take part: %s", peer.name, peer.refusal)
            elif request is not None and header.answers_sha256 == request.digest:
                peer.answer, peer.answered, peer.request = payload, peer.last_seen, None
            self.changed.notify_all()


class AllowList:
    """The list of participants, see `certificates.PARTICIPANTS`, read again whenever it has changed.

    Args:
      path: Of the file.
    """

    def __init__(self, path: str):
        self._path, self._mark, self._names = path, None, {}

    def names(self) -> dict[str, str]:
        """Names by fingerprint, in hexadecimal digits, as the list has them now.

        Raises:
          UserError: If it cannot be read.
        """
        try:
            found = os.stat(self._path)
            mark = found.st_mtime_ns, found.st_ino, found.st_size
        except OSError:
            mark = None
        if mark is None or mark != self._mark:
            listed = certificates.read_participants(self._path)
            self._mark, self._names = mark, {digits: name for name, digits in listed.items()}
        return self._names
