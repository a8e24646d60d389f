"""The client of a secure sum: a state machine, messages in and messages out.

Bonawitz et al. 2017, https://eprint.iacr.org/2017/281, Figure 4, on the graphs of Bell et al. 2020,
https://eprint.iacr.org/2020/704. A client answers each phase once, refuses what does not fit, and has no secrets left
when it has refused or answered the last one. Messages come from the server, which is not trusted with any input.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import numpy as np

from tff_tx.federation.secure_sums import keys, session, shamir
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.graphs import Graph
from tff_tx.federation.secure_sums.identities import Authority, Identity, fingerprint
from tff_tx.federation.secure_sums.masks import KEY_BYTES
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
from tff_tx.federation.secure_sums.packing import pack
from tff_tx.federation.secure_sums.terms import Terms

_PHASES = ("advertise", "share keys", "mask", "sign survivors", "unmask", "nothing: the session is over")


class Client:
    """One client in one session.

    Args:
      terms: What it agrees to, the digest being that of the model that it has received itself.
      identity: Its key and certificate.
      authority: Who vouches for the others.
      least: Fewest clients over whom it agrees to be summed; the protocol may demand more.
    """

    def __init__(self, terms: Terms, identity: Identity, authority: Authority, least: int = 0):
        self._terms, self._identity, self._authority, self._least = terms, identity, authority, least
        self._phase = 0
        self._mask_secret = self._share_secret = self._seed = None
        self._shares: dict[int, bytes] = {}

    def advertise(self) -> AdvertiseKeys:
        """R0: two fresh public keys, signed together with the terms."""
        with self._step(0):
            self._mask_secret, self._share_secret = keys.new_secret(), keys.new_secret()
            public = keys.public_key(self._mask_secret), keys.public_key(self._share_secret)
            signature = self._identity.sign(session.keys_digest(self._terms, *public))
            self._own = AdvertiseKeys(self._identity.certificate, *public, signature)
            return self._own

    def share_keys(self, roster: Roster) -> ShareKeys:
        """R1: checks the others' keys, and seals a share of each of its secrets for each neighbour."""
        with self._step(1):
            self._join(roster)
            self._seed = os.urandom(KEY_BYTES)
            holders = sorted(self._graph.holders(self._index))
            threshold = self._sizes.threshold
            seed_shares = shamir.split(self._seed, threshold, holders)
            key_shares = shamir.split(self._mask_secret, threshold, holders)
            if self._index in seed_shares:
                self._shares[self._index] = seed_shares[self._index]
            receivers = tuple(sorted(self._neighbours))
            sealed = tuple(
                keys.seal(self._key(v, session.SHARES), seed_shares[v] + key_shares[v], self._session, self._index, v)
                for v in receivers
            )
            return ShareKeys(session.commitment(self._session, self._seed), receivers, sealed)

    def mask(self, message: SealedShares) -> session.Masker:
        """R2: what masks its vectors, over those neighbours whose shares have arrived."""
        with self._step(2):
            senders = set(message.senders)
            if len(senders) < len(message.senders) or len(message.sealed) != len(message.senders):
                raise SecureSumError("a client's shares are there twice, or not at all.")
            if not senders <= self._neighbours.keys():
                raise SecureSumError("shares come from a client that is no neighbour.")
            self._require_threshold(senders, "have shared keys")
            for v, sealed in zip(message.senders, message.sealed):
                key = self._key(v, session.SHARES)
                self._shares[v] = keys.unseal(key, sealed, self._session, v, self._index)
            pairs = tuple((self._key(v, session.MASKS), v > self._index) for v in sorted(senders))
            masker = session.Masker(self._terms.vectors, self._session, self._seed, pairs)
            self._mask_secret = self._share_secret = self._seed = None
            return masker

    def masked_input(self, message: SealedShares, vectors: Sequence[np.ndarray]) -> MaskedInput:
        """R2: its vectors of whole numbers, masked and packed."""
        masked = self.mask(message)(vectors)
        return MaskedInput(tuple(pack(m, v.ring) for m, v in zip(masked, self._terms.vectors)))

    def sign_survivors(self, message: Survivors) -> SignSurvivors:
        """R2.5: signs over whom the sum is taken."""
        with self._step(3):
            clients = message.clients
            if list(clients) != sorted(set(clients)) or (clients and clients[-1] >= self._sizes.clients):
                raise SecureSumError("the survivors name a client twice, or one that there is not.")
            if self._index not in clients:
                raise SecureSumError("the server says that this client has dropped out, which it has not.")
            least = max(self._least, self._sizes.least)
            if len(clients) < least:
                raise SecureSumError(f"{len(clients)} clients survive, and the sum is taken over at least {least}.")
            self._survivors = frozenset(clients)
            alive = self._survivors & self._neighbours.keys()
            if not alive <= self._shares.keys():
                raise SecureSumError("a client survives that had not shared its keys.")
            self._require_threshold(alive, "survive")
            self._agreed = session.survivors_digest(self._session, clients)
            return SignSurvivors(self._identity.sign(self._agreed))

    def unmask(self, message: Unmask) -> UnmaskShares:
        """R3: one share of each neighbour, of its self-mask if it survived, else of its private key: never both."""
        with self._step(4):
            dropped, partners = set(message.dropped), self._shares.keys() - {self._index}
            if len(dropped) < len(message.dropped):
                raise SecureSumError("a client is named dead twice.")
            if self._index in dropped or dropped & self._survivors:
                raise SecureSumError("a client is named dead that was named alive: both of its shares are asked for.")
            if dropped != partners - self._survivors:
                raise SecureSumError("the clients named dead are not those that shared keys and did not survive.")
            self._check_signatures(message)
            seed, key = slice(0, shamir.SHARE_BYTES), slice(shamir.SHARE_BYTES, None)
            owners = tuple(sorted(self._shares))
            return UnmaskShares(owners, tuple(self._shares[v][seed if v in self._survivors else key] for v in owners))

    def _join(self, roster: Roster) -> None:
        """Checks the roster, and finds its place in the graph."""
        digests, number = roster.digests, len(roster.digests)
        own = session.advertisement_digest(self._own)
        if list(digests) != sorted(set(digests)):
            raise SecureSumError("the roster has a client's keys twice.")
        if own not in digests:
            raise SecureSumError("the roster does not have this client's own keys.")
        if number > self._terms.most_clients:
            raise SecureSumError(f"{number} clients are more than the {self._terms.most_clients} that were agreed.")
        self._sizes = self._terms.sizes(number)
        self._index = digests.index(own)
        together = session.roster_digest(digests)
        self._session, self._graph = session.session_digest(self._terms, together), Graph(self._sizes, together)
        self._neighbours = self._checked(roster)

    def _checked(self, roster: Roster) -> dict[int, AdvertiseKeys]:
        """The neighbours by index, if they are those of the graph, distinct, and have signed the same terms."""
        places = {mark: place for place, mark in enumerate(roster.digests)}
        found = {places.get(session.advertisement_digest(other)): other for other in roster.neighbours}
        if found.keys() != self._graph.neighbours(self._index) or len(found) < len(roster.neighbours):
            raise SecureSumError("the keys are not those of this client's neighbours in the roster.")
        everyone = [self._own, *found.values()]
        public = [key for one in everyone for key in (one.mask_key, one.share_key)]
        if len({fingerprint(one.certificate) for one in everyone}) < len(everyone) or len(set(public)) < len(public):
            raise SecureSumError("two clients have the same certificate or key.")
        for other in found.values():
            signed = session.keys_digest(self._terms, other.mask_key, other.share_key)
            try:
                self._authority.verify(other.certificate, signed, other.signature)
            except SecureSumError as error:
                raise SecureSumError(
                    f"{error} The keys are replaced, or signed for another model, round or configuration."
                ) from error
        return found

    def _check_signatures(self, message: Unmask) -> None:
        if len(set(message.signers)) < len(message.signers) or len(message.signatures) != len(message.signers):
            raise SecureSumError("a signature of the survivors is there twice, or not at all.")
        if not set(message.signers) <= self._neighbours.keys() & self._survivors:
            raise SecureSumError("the survivors are signed by a client that is no surviving neighbour.")
        self._require_threshold(message.signers, "have signed the survivors")
        for v, signature in zip(message.signers, message.signatures):
            try:
                self._authority.verify(self._neighbours[v].certificate, self._agreed, signature)
            except SecureSumError as error:
                raise SecureSumError(f"client {v} was told of other survivors than this one.") from error

    def _require_threshold(self, others, what: str) -> None:
        found, threshold = len(others) + self._sizes.is_full, self._sizes.threshold
        if found < threshold:
            raise SecureSumError(f"{found} clients {what}, and at least {threshold} must.")

    def _key(self, v, purpose):
        other, own = self._neighbours[v], self._mask_secret
        public = other.mask_key
        if purpose == session.SHARES:
            public, own = other.share_key, self._share_secret
        return keys.agree(own, public, self._session, purpose)

    @contextlib.contextmanager
    def _step(self, phase: int):
        """One phase, once and in order; however it fails, the client is out of the session and has no secrets."""
        try:
            if phase != self._phase:
                raise SecureSumError(f"a client was asked to {_PHASES[phase]}, and awaits {_PHASES[self._phase]}.")
            yield
        except BaseException:
            self.erase()
            raise
        self._phase += 1
        if self._phase == len(_PHASES) - 1:
            self.erase()

    def erase(self) -> None:
        """Forgets all secrets and ends the session; as far as Python lets go of memory."""
        self._mask_secret = self._share_secret = self._seed = None
        self._shares = {}
        self._phase = len(_PHASES) - 1
