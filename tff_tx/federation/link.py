"""A participant's end of the transport: it dials, takes one message after another, and answers each."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import threading
from collections.abc import Iterator
from typing import Any, Callable

from cryptography import x509

from tff_tx.core import certificates
from tff_tx.core.errors import UserError, reason
from tff_tx.federation import contents, grpc_calls, wire
from tff_tx.federation.calls import CallError, Calls
from tff_tx.federation.envelopes import SESSION_BYTES, EnvelopeError, Payload, Session, parse_header, payload_digest
from tff_tx.federation.hub import MOST_BYTES
from tff_tx.federation.messages_pb2 import Chunk, Header
from tff_tx.federation.secure_sums.errors import SecureSumError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_CALL_SECONDS = 60.0


class Link:
    """Serves a coordinator, through outages of either, until it is stopped.

    A message that comes again, as its answer was lost, gets the same answer; it is not computed again.

    Args:
      address: Of the coordinator, host:port.
      certificate: Directory of the participant's kit.
      digest_of: From what the coordinator tells who joins to the digest of its plan, which the session is bound to.
      on_plan: Called with the same; a `UserError` is told to the coordinator and ends `serve`.
      handle: From a message's header and payload to the answer.
      on_send: Called with the round, the phase, the answer and its digest before it leaves.
      most_bytes: Longest message of the coordinator.
      role: What the kit is for.
      connect: Connects to the coordinator; default: by gRPC to the address.

    Raises:
      UserError: If the kit cannot be read.
    """

    def __init__(
        self,
        address: str,
        certificate: str,
        digest_of: Callable[[dict[str, Any]], str],
        on_plan: Callable[[dict[str, Any]], None],
        handle: Callable[[Header, bytes], Payload],
        on_send: Callable[[int, str, Payload, bytes], None] = lambda round_num, phase, payload, digest: None,
        most_bytes: int = MOST_BYTES,
        role: str = "participant",
        connect: Callable[[], contextlib.AbstractContextManager[Calls]] | None = None,
    ):
        self._address, self._certificate, self._most_bytes = address, certificate, most_bytes
        self._connect = connect or functools.partial(grpc_calls.connect, address, certificate)
        self._identity, self._authority = wire.load_kit(certificate, role)
        self._digest_of, self._on_plan, self._handle, self._on_send = digest_of, on_plan, handle, on_send
        self._stopped, self._sending = threading.Event(), threading.Lock()
        self._last: tuple[tuple, Payload] | None = None

    def stop(self) -> None:
        """Ends `serve`, after the answer that it is at."""
        self._stopped.set()

    def serve(self) -> None:
        """Joins, again whenever the connection is lost, and answers.

        Raises:
          UserError: If the coordinator rejects this participant, is none, or has a certificate of another authority or
            for another address.
        """
        pause = _FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                with self._connect() as calls:
                    session = self._join(calls)
                    pause = _FIRST_PAUSE
                    while not self._stopped.is_set():
                        self._answer_next(calls, session)
            except CallError as error:
                if error.is_final:
                    raise UserError(f"the coordinator at {self._address}: {error}") from None
                if pause == _FIRST_PAUSE and not self._stopped.is_set():
                    logging.warning("no connection to %s (%s): trying again", self._address, error)
            except EnvelopeError as error:
                logging.warning("a message from %s was rejected: %s", self._address, error)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _join(self, calls: Calls) -> Session:
        nonce = os.urandom(SESSION_BYTES)
        # Who answers is not known yet: the connection is with somebody whom the authority has certified.
        mine = Session(self._identity, self._authority, b"", nonce)
        offer = next(mine.chunks(0, "join"))
        offer.envelope.certificate = self._identity.certificate
        reply = calls.join(offer, timeout=_CALL_SECONDS)
        certificate = reply.envelope.certificate
        try:
            role = certificates.role_of(x509.load_der_x509_certificate(certificate))
        except ValueError:
            raise EnvelopeError("the answer has no certificate.") from None
        if role not in ("coordinator", "node"):
            raise UserError(f"{self._address} is not a coordinator: its certificate is for another role.")
        said, _ = contents.unpack(reply.data)
        if said.get("nonce") != nonce.hex() or not isinstance(said.get("welcome"), dict):
            raise EnvelopeError("the answer is to another who joined.")
        run, key = self._digest_of(said["welcome"]), parse_header(reply.envelope).session
        session = Session(self._identity, self._authority, certificate, key, run)
        session.read([reply], self._most_bytes)
        try:
            with self._beating(calls, session):
                self._on_plan(said["welcome"])
        except Exception as error:  # whatever a plan says, it ends in a sentence
            told = error if isinstance(error, UserError) else UserError(f"the plan cannot be taken: {reason(error)}.")
            self._send(calls, session, 0, "refuse", contents.pack({"error": str(told)}))
            raise told from None
        self._send(calls, session, 0, "ready")
        return session

    def _send(self, calls, session, round_num, phase, payload=(), answered=b"") -> None:
        known = payload_digest(payload)
        self._on_send(round_num, phase, payload, known)
        with self._sending:
            session.read([calls.send(session.chunks(round_num, phase, payload, answered, known))], 0)

    def _answer_next(self, calls: Calls, session: Session) -> None:
        asked = calls.receive(next(session.chunks(0, "receive")))
        received = _until_message(asked)
        if received is None:
            return
        with self._beating(calls, session):
            header, payload = session.read(received, self._most_bytes)
            key = (header.run, header.round, header.phase, header.payload_sha256)
            if self._last is None or self._last[0] != key:
                self._last = None  # two answers may be too much for the memory
                self._last = key, self._answer(header, payload)
        self._send(calls, session, header.round, header.phase, self._last[1], header.payload_sha256)

    def _answer(self, header: Header, payload: bytes) -> Payload:
        try:
            return self._handle(header, payload)
        except Exception as error:  # a message that cannot be answered does not end a participant
            logging.warning("round %d, %s: %s", header.round, header.phase, reason(error))
            is_told = isinstance(error, (UserError, EnvelopeError, SecureSumError))
            return contents.pack({"error": str(error) if is_told else reason(error)})

    @contextlib.contextmanager
    def _beating(self, calls: Calls, session: Session) -> Iterator[None]:
        """Meanwhile, the coordinator is told every few seconds that this participant lives."""
        done = threading.Event()

        def beat():
            while not done.wait(calls.beat_seconds):
                with contextlib.suppress(CallError, EnvelopeError, UserError), self._sending:
                    session.read([calls.send(session.chunks(0, "beat"), timeout=calls.beat_seconds)], 0)

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _until_message(asked: Iterator[Chunk]) -> Iterator[Chunk] | None:
    """The chunks from the first that is not empty; None if the coordinator ends the call without any."""
    for chunk in asked:
        if chunk.HasField("envelope"):
            return _chain(chunk, asked)
    return None


def _chain(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    yield from rest
