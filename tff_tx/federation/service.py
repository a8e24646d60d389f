"""What participants call: they join, ask what there is for them, and answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tff_tx.federation import contents
from tff_tx.federation.calls import Caller, NotAdmittedError, NotJoinedError
from tff_tx.federation.envelopes import SESSION_BYTES, EnvelopeError, Session, parse_chunk, parse_header
from tff_tx.federation.messages_pb2 import Chunk
from tff_tx.federation.peers import AllowList, Peer, Peers
from tff_tx.federation.secure_sums.identities import Authority, Identity, fingerprint

BEAT_SECONDS = 5.0


class Service:
    """Answers calls, by whichever transport they come.

    Whoever calls is identified by a certificate, which must be of the authority and on the list of participants, and
    signs each message by it.

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

    def join(self, caller: Caller, data: bytes) -> Chunk:
        """Opens a session; all three raise `EnvelopeError` for what they reject."""
        chunk = parse_chunk(data)
        caller.certificate = caller.certificate or chunk.envelope.certificate
        name = self._name(caller)
        nonce = parse_header(chunk.envelope).session
        offered = Session(self._identity, self._authority, caller.certificate, nonce)
        offered.read([chunk], self._most_bytes)
        if len(nonce) != SESSION_BYTES:
            raise EnvelopeError("a session is opened with 16 random bytes.")
        session = Session(self._identity, self._authority, caller.certificate, os.urandom(SESSION_BYTES), self._run)
        self._peers.join(name, caller.certificate, session)
        payload = contents.pack({"nonce": nonce.hex(), "welcome": self._welcome})
        reply = Chunk(envelope=session.seal(0, "join", payload), data=b"".join(payload))
        reply.envelope.certificate = self._identity.certificate
        return reply

    def receive(self, caller: Caller, data: bytes) -> Iterator[Chunk]:
        """The next message for the participant, after empty chunks while there is none."""
        peer, session = self._peer(caller)
        session.read([parse_chunk(data)], 0)
        peer.receiving = mine = object()  # a connection that is lost may not have noticed
        while caller.is_active() and peer.receiving is mine and peer.session is session and not self._peers.closing:
            with self._peers.changed:
                peer.last_seen = time.monotonic()
                if peer.request is None:
                    peer.asked.wait(BEAT_SECONDS)
                request = peer.request
            if request is None:
                yield Chunk()
                continue
            for part in session.chunks(request.round_num, request.phase, request.payload, known=request.digest):
                yield part
                peer.last_seen = time.monotonic()
            return

    def send(self, caller: Caller, stream: Iterator[bytes]) -> Chunk:
        """Takes a message of the participant; gives the receipt."""
        peer, session = self._peer(caller)
        if not (sending := peer.sending).acquire(blocking=False):
            raise EnvelopeError("a participant sends one message at a time.")
        try:
            header, payload = session.read(_watched(stream, peer), self._most_bytes)
            self._peers.take(peer, header, payload)
        finally:
            sending.release()
        return Chunk(envelope=session.seal(header.round, header.phase))

    def _peer(self, caller: Caller) -> tuple[Peer, Session]:
        peer = self._peers[self._name(caller)]
        with self._peers.changed:
            session = peer.session
        if session is None or peer.certificate != caller.certificate:
            raise NotJoinedError("join first.")
        return peer, session

    def _name(self, caller: Caller) -> str:
        """The name of who has the connection's certificate."""
        mark = fingerprint(caller.certificate).hex()
        name = self._allowed.names().get(mark)
        if name not in self._peers:
            raise NotAdmittedError(f"the certificate {mark} is not among the participants of this federation.")
        return name


def _watched(stream: Iterator[bytes], peer: Peer) -> Iterator[Chunk]:
    for data in stream:
        peer.last_seen = time.monotonic()
        yield parse_chunk(data)
