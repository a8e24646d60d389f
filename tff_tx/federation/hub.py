"""The coordinator's end of the transport: participants dial in, ask what there is for them, and answer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tff_tx.core import certificates
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import contents, wire
from tff_tx.federation.envelopes import (
    SESSION_BYTES,
    EnvelopeError,
    Payload,
    Session,
    parse_chunk,
    parse_header,
    payload_digest,
)
from tff_tx.federation.messages_pb2 import Chunk, Header
from tff_tx.federation.secure_sums.identities import Authority, fingerprint

BEAT_SECONDS = 5.0
MOST_BYTES = 1 << 36


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long to wait for what, in seconds.

    Attributes:
      join: For participants that are needed, before the first round.
      phase: For a participant's answer.
      silence: For a sign of life of one that owes an answer.
    """

    join: float = 600.0
    phase: float = 3600.0
    silence: float = 60.0


@dataclasses.dataclass(frozen=True)
class _Request:
    round_num: int
    phase: str
    payload: Payload
    digest: bytes


@dataclasses.dataclass
class _Peer:
    """A participant as the coordinator knows it; all fields change under the hub's lock."""

    name: str
    session: Session | None = None
    is_ready: bool = False
    refusal: str = ""
    certificate: bytes = b""
    last_seen: float = 0.0
    request: _Request | None = None
    answer: bytes | None = None
    receiving: Any = None
    sending: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Hub(contextlib.AbstractContextManager):
    """A server that participants join; `ask` sends each a message and gathers the answers.

    Whoever calls is identified by the certificate of the connection, which must be of the authority and on the list of
    participants, and signs each message by it. The list is read again when it has changed.

    Args:
      address: To listen at, host:port.
      certificate: Directory of the coordinator's kit.
      participants: File with the list, see `certificates.PARTICIPANTS`.
      names: Who of them takes part.
      run: Digest of the plan.
      welcome: What those are told who join, see `contents.pack`.
      limits: How long to wait for what.
      most_bytes: Longest message of a participant.

    Raises:
      UserError: If the kit or the list cannot be read or names nobody of the `names`, or the address is taken.
    """

    def __init__(
        self,
        address: str,
        certificate: str,
        participants: str,
        names: Sequence[str],
        run: str,
        welcome: Mapping[str, Any],
        limits: Limits | None = None,
        most_bytes: int = MOST_BYTES,
    ):
        self._kit, (self._identity, self._authority) = certificate, wire.load_kit(certificate, "coordinator")
        self._list, self._listed = participants, (None, {})
        if missing := sorted(set(names) - set(self._allowed().values())):
            raise UserError(
                f"{setting('data.silos')}={','.join(names)}: {missing[0]} is not among the participants of "
                f"{participants}; make its kit with `python -m programs.certs`, or correct the name."
            )
        self._run, self._welcome, self.limits, self._most_bytes = run, dict(welcome), limits or Limits(), most_bytes
        self.names, self._peers = tuple(names), {name: _Peer(name) for name in names}
        self._changed, self._closing = threading.Condition(), False
        # A participant receives, and sends, with a thread each; a third call takes the place of another.
        pool = concurrent.futures.ThreadPoolExecutor(3 * len(names) + 8, thread_name_prefix="federation")
        self._server = grpc.server(pool, options=wire.OPTIONS)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        try:
            self.port = self._server.add_secure_port(address, wire.server_credentials(certificate))
        except RuntimeError as error:
            raise UserError(
                f"{setting('engine.federation_address')}={address}: cannot listen there ({error}): choose another."
            ) from None
        self._server.start()

    def _handlers(self):
        kinds = {
            "Join": (grpc.unary_unary_rpc_method_handler, self._join),
            "Receive": (grpc.unary_stream_rpc_method_handler, self._receive),
            "Send": (grpc.stream_unary_rpc_method_handler, self._send),
        }
        # Chunks are parsed by the handlers: gRPC would log a traceback of what is none.
        made = {n: kind(f, None, Chunk.SerializeToString) for n, (kind, f) in kinds.items()}
        return grpc.method_handlers_generic_handler(wire.SERVICE, made)

    # What participants call.

    def _join(self, data: bytes, context: grpc.ServicerContext) -> Chunk:
        with _rejecting(context):
            name, certificate = self._caller(context)
            chunk = parse_chunk(data)
            nonce = parse_header(chunk.envelope).session
            offered = Session(self._identity, self._authority, certificate, nonce)
            offered.read([chunk], self._most_bytes)
            if len(nonce) != SESSION_BYTES:
                raise EnvelopeError("a session is opened with 16 random bytes.")
            session = Session(self._identity, self._authority, certificate, os.urandom(SESSION_BYTES), self._run)
            with self._changed:
                peer = self._peers[name]
                peer.session, peer.certificate, peer.last_seen = session, certificate, time.monotonic()
                peer.sending = threading.Lock()  # a call of the last connection may not have ended
                self._changed.notify_all()
            payload = contents.pack({"nonce": nonce.hex(), "welcome": self._welcome})
            reply = Chunk(envelope=session.seal(0, "join", payload), data=b"".join(payload))
            reply.envelope.certificate = self._identity.certificate
            return reply

    def _receive(self, data: bytes, context: grpc.ServicerContext) -> Iterator[Chunk]:
        with _rejecting(context):
            peer, session = self._peer(context)
            session.read([parse_chunk(data)], 0)
            peer.receiving = mine = object()  # a connection that is lost may not have noticed
            while context.is_active() and peer.receiving is mine and peer.session is session and not self._closing:
                with self._changed:
                    peer.last_seen = time.monotonic()
                    if peer.request is None:
                        self._changed.wait(BEAT_SECONDS)
                    request = peer.request
                if request is None:
                    yield Chunk()
                    continue
                for part in session.chunks(request.round_num, request.phase, request.payload, known=request.digest):
                    yield part
                    peer.last_seen = time.monotonic()
                return

    def _send(self, stream: Iterator[bytes], context: grpc.ServicerContext) -> Chunk:
        with _rejecting(context):
            peer, session = self._peer(context)
            if not (sending := peer.sending).acquire(blocking=False):
                raise EnvelopeError("a participant sends one message at a time.")
            try:
                header, payload = session.read(_watched(stream, peer), self._most_bytes)
                self._take(peer, header, payload)
            finally:
                sending.release()
            return Chunk(envelope=session.seal(header.round, header.phase))

    def _take(self, peer: _Peer, header: Header, payload: bytes) -> None:
        """Counts the answer to what is asked, once; another, as to an attempt that was given up, is a sign of life."""
        with self._changed:
            peer.last_seen = time.monotonic()
            request = peer.request
            if header.phase in ("ready", "refuse"):
                peer.is_ready = header.phase == "ready"
                peer.refusal = str(contents.unpack(payload)[0].get("error", "")) if payload else ""
                if not peer.is_ready:
                    logging.warning("%s does not take part: %s", peer.name, peer.refusal)
            elif request is not None and header.answers_sha256 == request.digest:
                peer.answer, peer.request = payload, None
            self._changed.notify_all()

    def _peer(self, context) -> tuple[_Peer, Session]:
        name, certificate = self._caller(context)
        peer = self._peers[name]
        with self._changed:
            session = peer.session
        if session is None or peer.certificate != certificate:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "join first.")
        return peer, session

    def _caller(self, context) -> tuple[str, bytes]:
        """The name of who has the connection's certificate, and that, in DER."""
        certificate = _der(context.auth_context()["x509_pem_cert"][0])
        name = self._allowed().get(fingerprint(certificate).hex())
        if name not in self._peers:
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate {fingerprint(certificate).hex()} is not among the participants of this federation.",
            )
        return name, certificate

    def _allowed(self) -> dict[str, str]:
        """Names by fingerprint, as the list has them now."""
        try:
            found = os.stat(self._list)
            mark = found.st_mtime_ns, found.st_ino, found.st_size
        except OSError:
            mark = None
        if mark is None or mark != self._listed[0]:
            listed = certificates.read_participants(self._list)
            self._listed = mark, {digits: name for name, digits in listed.items()}
        return self._listed[1]

    # What the coordinator does.

    @property
    def authority(self) -> Authority:
        """Who certifies participants: of those that take part, and no others."""
        return Authority.load(self._kit, participants=self.names)

    def fingerprints(self, names: Iterable[str]) -> dict[str, bytes]:
        """Of participants that have joined, the digests of their certificates."""
        with self._changed:
            return {name: fingerprint(self._peers[name].certificate) for name in names}

    def wait(self, names: Sequence[str] | None = None) -> None:
        """Waits until participants have joined and approved of the plan, by default all.

        Raises:
          UserError: If one has not come within the limit.
        """
        wanted = list(self._peers if names is None else names)
        deadline = time.monotonic() + self.limits.join
        with self._changed:
            while missing := [name for name in wanted if not self._peers[name].is_ready]:
                if not self._changed.wait(deadline - time.monotonic()):
                    told = [f" ({name}: {self._peers[name].refusal})" for name in missing if self._peers[name].refusal]
                    raise UserError(
                        f"{setting('data.silos')}: {', '.join(missing)} did not join within {self.limits.join:.0f} s"
                        f"{''.join(told)}: start `python -m programs.participate` there, or leave them out."
                    )

    def ask(
        self,
        round_num: int,
        phase: str,
        payloads: Mapping[str, Payload],
        on_answer: Callable[[int], None] | None = None,
        seconds: float | None = None,
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Sends participants a message each, and waits for their answers.

        A participant that is gone and comes back within the limits is sent the same message again.

        Args:
          round_num: The round.
          phase: What it is about.
          payloads: What is sent, by the participant's name; different from all that are sent before, unless it may have
            the same answer.
          on_answer: Called with the number of answers so far.
          seconds: Time limit; default: that of a phase.

        Returns:
          The answers by name, and by name the reasons why others have none.
        """
        answers, failures = {}, {}
        limit = self.limits.phase if seconds is None else seconds
        with self._changed:
            started = time.monotonic()
            for name, payload in payloads.items():
                self._peers[name].request, self._peers[name].answer = (
                    _Request(round_num, phase, payload, payload_digest(payload)),
                    None,
                )
            self._changed.notify_all()
            while waiting := payloads.keys() - answers.keys() - failures.keys():
                now = time.monotonic()
                for name in waiting:
                    peer = self._peers[name]
                    if peer.answer is not None:
                        answers[name], peer.answer = peer.answer, None
                        if on_answer is not None:
                            on_answer(len(answers))
                    elif now > started + limit:
                        failures[name] = f"{name} has not answered within {limit:.0f} s"
                    elif now > max(started, peer.last_seen) + self.limits.silence:
                        failures[name] = f"{name} has given no sign of life for {self.limits.silence:.0f} s"
                if waiting - answers.keys() - failures.keys():
                    self._changed.wait(1.0)
            for name in payloads:
                self._peers[name].request = None
        return answers, failures

    def close(self) -> None:
        """Ends the server; participants go on looking for the next."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.stop(1.0).wait()

    def __exit__(self, *unused):
        self.close()


def _watched(stream: Iterator[bytes], peer: _Peer) -> Iterator[Chunk]:
    for data in stream:
        peer.last_seen = time.monotonic()
        yield parse_chunk(data)


@contextlib.contextmanager
def _rejecting(context) -> Iterator[None]:
    try:
        yield
    except EnvelopeError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


@functools.lru_cache(1024)
def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
