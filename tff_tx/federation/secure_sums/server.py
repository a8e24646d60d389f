"""The server of a secure sum: a state machine that takes clients' messages, phase by phase, and finds the sum.

    server = Server(terms, authority)
    while server.phase != DONE:
        for sender, message in arrived:   # until a deadline, or all have answered
            server.receive(sender, message)
        for receiver, message in server.advance().items(): ...
    sums = server.sums

Clients that do not answer a phase have dropped out of the session. Senders are named by their certificate's
fingerprint, which a transport authenticates. It has no threads and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.federation.secure_sums import keys, session, shamir
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.graphs import Graph
from tff_tx.federation.secure_sums.identities import Authority, fingerprint
from tff_tx.federation.secure_sums.masks import mask
from tff_tx.federation.secure_sums.messages import (
    AdvertiseKeys,
    MaskedInput,
    Roster,
    SealedShares,
    ShareKeys,
    SignSurvivors,
    Survivors,
    Unmask,
    UnmaskShares,
)
from tff_tx.federation.secure_sums.packing import unpack
from tff_tx.federation.secure_sums.terms import Terms

PHASES = (AdvertiseKeys, ShareKeys, MaskedInput, SignSurvivors, UnmaskShares)
"""The messages that the server awaits, one a phase."""
DONE = len(PHASES)


class Server:
    """One session.

    Attributes:
      phase: Number of the phase, index of `PHASES`; `DONE` at the end.
      sums: The sums, words in [0, M) [length] by vector, once it is done.

    Args:
      terms: What the clients agree to.
      authority: Who vouches for them.
    """

    def __init__(self, terms: Terms, authority: Authority):
        self.phase, self.sums = 0, None
        self._terms, self._authority = terms, authority
        self._advertised: dict[bytes, AdvertiseKeys] = {}
        self._shared: dict[int, ShareKeys] = {}
        self._survivors: set[int] = set()
        self._signed: dict[int, bytes] = {}
        self._unmasking: dict[int, dict[int, bytes]] = {}
        self._totals = [np.zeros(vector.length, vector.ring.dtype) for vector in terms.vectors]

    def receive(self, sender: bytes, message: Any) -> None:
        """Takes a client's message of this phase.

        Raises:
          SecureSumError: If it is refused; the client can still drop out, or the session go on without it.
        """
        if self.phase == DONE or not isinstance(message, PHASES[self.phase]):
            raise SecureSumError(f"a {type(message).__name__} is not awaited in phase {self.phase}.")
        if self.phase == 0:
            self._receive_keys(sender, message)
            return
        index = self._index(sender)
        if index in self._answered():
            raise SecureSumError(f"client {index} has answered this phase already.")
        (self._receive_shares, self._receive_input, self._receive_signature, self._receive_unmasking)[self.phase - 1](
            index, message
        )

    def advance(self) -> Mapping[bytes, Any]:
        """Ends the phase with those who have answered; gives what to send to each of them.

        Raises:
          SecureSumError: If they are too few, or shares do not fit: the session is over without a sum.
        """
        steps = (self._rosters, self._forward_shares, self._name_survivors, self._forward_signatures, self._finish)
        try:
            messages = steps[self.phase]()
        except SecureSumError:
            self.phase = DONE
            raise
        self.phase += 1
        return {self._names[index]: message for index, message in messages.items()}

    @property
    def survivors(self) -> frozenset[bytes]:
        """Over whom the sum is taken, as far as their inputs have arrived."""
        return frozenset(self._names[index] for index in self._survivors)

    def add_masked(self, senders: Iterable[bytes], totals: Sequence[np.ndarray]) -> None:
        """R2: in place of the messages of some clients, the sum of what they would send, which an aggregator made."""
        if self.phase != PHASES.index(MaskedInput):
            raise SecureSumError("masked inputs are not awaited.")
        indices = {self._index(sender) for sender in senders}
        if indices & self._survivors:
            raise SecureSumError("a client's input is in the sum already.")
        self._add(totals)
        self._survivors |= indices

    def _receive_keys(self, sender, message):
        if sender != fingerprint(message.certificate):
            raise SecureSumError("keys are advertised under another's certificate.")
        if sender in self._advertised:
            raise SecureSumError("a client has advertised its keys already.")
        signed = session.keys_digest(self._terms, message.mask_key, message.share_key)
        self._authority.verify(message.certificate, signed, message.signature)
        self._advertised[sender] = message

    def _receive_shares(self, index, message):
        expected = self._graph.neighbours(index)
        if set(message.receivers) != expected or not len(expected) == len(message.receivers) == len(message.sealed):
            raise SecureSumError(f"client {index} has not sealed shares for its neighbours.")
        self._shared[index] = message

    def _receive_input(self, index, message):
        vectors = self._terms.vectors
        if len(message.vectors) != len(vectors):
            raise SecureSumError(f"client {index} has sent {len(message.vectors)} vectors, not {len(vectors)}.")
        self._add([unpack(packed, v.length, v.ring) for packed, v in zip(message.vectors, vectors)])
        self._survivors.add(index)

    def _add(self, inputs):
        for total, vector, words in zip(self._totals, self._terms.vectors, inputs):
            vector.ring.add(total, vector.ring.of(words))

    def _receive_signature(self, index, message):
        signed = session.survivors_digest(self._session, self._named)
        self._authority.verify(self._keys[index].certificate, signed, message.signature)
        self._signed[index] = message.signature

    def _receive_unmasking(self, index, message):
        expected = self._graph.holders(index) & self._shared.keys()
        if set(message.owners) != expected or not len(expected) == len(message.owners) == len(message.shares):
            raise SecureSumError(f"client {index} has not sent its share of each neighbour.")
        self._unmasking[index] = dict(zip(message.owners, message.shares))

    def _index(self, sender):
        """The client's number, if it takes part in this phase."""
        index = self._indices.get(sender)
        if index is None or index not in self._asked:
            raise SecureSumError("a message comes from a client that has no part in this phase of the session.")
        return index

    def _answered(self):
        return (self._advertised, self._shared, self._survivors, self._signed, self._unmasking)[self.phase]

    def _rosters(self):
        by_digest = {session.advertisement_digest(message): name for name, message in self._advertised.items()}
        digests = tuple(sorted(by_digest))
        if len(digests) > self._terms.most_clients:
            raise SecureSumError(f"{len(digests)} clients are more than the {self._terms.most_clients} agreed.")
        self._names = [by_digest[mark] for mark in digests]
        self._indices = {name: index for index, name in enumerate(self._names)}
        self._keys = [self._advertised[name] for name in self._names]
        self._asked = set(range(len(digests)))
        self.sizes = self._terms.sizes(len(digests))
        together = session.roster_digest(digests)
        self._session, self._graph = session.session_digest(self._terms, together), Graph(self.sizes, together)
        return {
            u: Roster(digests, tuple(self._keys[v] for v in sorted(self._graph.neighbours(u)))) for u in self._asked
        }

    def _forward_shares(self):
        self._require(len(self._shared), "have shared keys")
        self._asked = set(self._shared)
        sealed = {u: dict(zip(message.receivers, message.sealed)) for u, message in self._shared.items()}
        messages = {}
        for u in self._asked:
            senders = tuple(sorted(self._graph.neighbours(u) & self._asked))
            messages[u] = SealedShares(senders, tuple(sealed[v][u] for v in senders))
        return messages

    def _name_survivors(self):
        self._require(len(self._survivors), "have sent their input")
        self._asked, self._named = set(self._survivors), tuple(sorted(self._survivors))
        return dict.fromkeys(self._asked, Survivors(self._named))

    def _forward_signatures(self):
        self._require(len(self._signed), "have signed the survivors", self.sizes.threshold)
        self._asked = set(self._signed)
        messages = {}
        for u in self._asked:
            neighbours = self._graph.neighbours(u)
            signers = tuple(sorted(neighbours & self._asked)[: self.sizes.threshold])
            dropped = tuple(sorted((neighbours & self._shared.keys()) - self._survivors))
            messages[u] = Unmask(signers, tuple(self._signed[v] for v in signers), dropped)
        return messages

    def _finish(self):
        for v in sorted(self._shared):
            secret = self._rebuilt(v)
            if v in self._survivors:
                if session.commitment(self._session, secret) != self._shared[v].commitment:
                    raise SecureSumError(f"the shares of client {v}'s self-mask do not fit what it committed to.")
                self._subtract(secret, True)
                continue
            if keys.public_key(secret) != self._keys[v].mask_key:
                raise SecureSumError(f"the shares of client {v}'s key do not fit the key that it advertised.")
            for u in self._graph.neighbours(v) & self._survivors:
                pair = keys.agree(secret, self._keys[u].mask_key, self._session, session.MASKS)
                self._subtract(pair, v > u)
        self.sums = [v.ring.reduced(total) for v, total in zip(self._terms.vectors, self._totals)]
        return {}

    def _rebuilt(self, owner):
        shares = {u: shares[owner] for u, shares in self._unmasking.items() if owner in shares}
        try:
            return shamir.combine(shares, self.sizes.threshold)
        except SecureSumError as error:
            raise SecureSumError(f"a secret of client {owner} cannot be rebuilt: {error}") from error

    def _subtract(self, key, added):
        for total, vector in zip(self._totals, self._terms.vectors):
            undo = vector.ring.subtract if added else vector.ring.add
            undo(total, mask(key, self._session, vector.name, vector.length, vector.ring))

    def _require(self, found: int, what: str, least: int | None = None):
        least = self.sizes.least if least is None else least
        if found < least:
            raise SecureSumError(f"{found} clients {what}, and at least {least} must.")
