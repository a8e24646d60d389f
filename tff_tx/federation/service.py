"""What participants call: they join, ask what there is for them, and answer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tff_tx.federation import contents, wire
from tff_tx.federation.envelopes import SESSION_BYTES, EnvelopeError, Session, parse_chunk, parse_header
from tff_tx.federation.messages_pb2 import Chunk
from tff_tx.federation.peers import AllowList, Peer, Peers
from tff_tx.federation.secure_sums.identities import Authority, Identity, fingerprint

BEAT_SECONDS = 5.0


class Service:
    """A gRPC server over mutual TLS.

    Whoever calls is identified by the certificate of the connection, which must be of the authority and on the list of
    participants, and signs each message by it.

    Args:
      identity: The coordinator's.
      authority: Who certifies participants.
      peers: The participants.
      allowed: Their list.
      run: Digest of the plan.
      welcome: What those are told who join, see `contents.pack`.
      most_bytes: Longest message of a participant.
    """

    def __init__(
        self,
        identity: Identity,
        authority: Authority,
        peers: Peers,
        allowed: AllowList,
        run: str,
        welcome: Mapping[str, Any],
        most_bytes: int,
    ):
        self._identity, self._authority, self._peers, self._allowed = identity, authority, peers, allowed
        self._run, self._welcome, self._most_bytes = run, dict(welcome), most_bytes

    def start(self, address: str, certificate: str) -> tuple[grpc.Server, int]:
        """The server, which listens, and its port; `certificate` is the directory of the coordinator's kit.

        Raises:
          RuntimeError: If it cannot listen at the address.
        """
        # A participant receives, and sends, with a thread each; a third call takes the place of another.
        pool = concurrent.futures.ThreadPoolExecutor(3 * len(list(self._peers)) + 8, thread_name_prefix="federation")
        server = grpc.server(pool, options=wire.OPTIONS)
        kinds = {
            "Join": (grpc.unary_unary_rpc_method_handler, self._join),
            "Receive": (grpc.unary_stream_rpc_method_handler, self._receive),
            "Send": (grpc.stream_unary_rpc_method_handler, self._send),
        }
        # Chunks are parsed by the handlers: gRPC would log a traceback of what is none.
        made = {n: kind(f, None, Chunk.SerializeToString) for n, (kind, f) in kinds.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, made),))
        port = server.add_secure_port(address, wire.server_credentials(certificate))
        server.start()
        return server, port

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
            self._peers.join(name, certificate, session)
            payload = contents.pack({"nonce": nonce.hex(), "welcome": self._welcome})
            reply = Chunk(envelope=session.seal(0, "join", payload), data=b"".join(payload))
            reply.envelope.certificate = self._identity.certificate
            return reply

    def _receive(self, data: bytes, context: grpc.ServicerContext) -> Iterator[Chunk]:
        with _rejecting(context):
            peer, session = self._peer(context)
            session.read([parse_chunk(data)], 0)
            peer.receiving = mine = object()  # a connection that is lost may not have noticed
            while (
                context.is_active() and peer.receiving is mine and peer.session is session and not self._peers.closing
            ):
                with self._peers.changed:
                    peer.last_seen = time.monotonic()
                    if peer.request is None:
                        self._peers.changed.wait(BEAT_SECONDS)
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
                self._peers.take(peer, header, payload)
            finally:
                sending.release()
            return Chunk(envelope=session.seal(header.round, header.phase))

    def _peer(self, context) -> tuple[Peer, Session]:
        name, certificate = self._caller(context)
        peer = self._peers[name]
        with self._peers.changed:
            session = peer.session
        if session is None or peer.certificate != certificate:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "join first.")
        return peer, session

    def _caller(self, context) -> tuple[str, bytes]:
        """The name of who has the connection's certificate, and that, in DER."""
        certificate = _der(context.auth_context()["x509_pem_cert"][0])
        name = self._allowed.names().get(fingerprint(certificate).hex())
        if name not in self._peers:
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate {fingerprint(certificate).hex()} is not among the participants of this federation.",
            )
        return name, certificate


def _watched(stream: Iterator[bytes], peer: Peer) -> Iterator[Chunk]:
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
