"""Sessions of secure sums in one process, and what a coordinator that keeps everything can make of them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from cryptography.hazmat.primitives import serialization

from tff_tx.core import certificates
from tff_tx.federation.secure_sums import (
    DONE,
    Authority,
    Client,
    Identity,
    Server,
    Terms,
    Threat,
    Vector,
    decode,
    encode,
    keys,
    messages,
    session,
    shamir,
)
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.masks import mask
from tff_tx.federation.secure_sums.packing import unpack

MODEL = b"m" * 32


@functools.cache
def authority():
    return certificates.issue("authority")


@functools.cache
def identity(number):
    return Identity.of(certificates.issue(f"client {number}", authority=authority()))


@functools.cache
def checker():
    return Authority(authority()[1].public_bytes(serialization.Encoding.DER))


FIVE = (Vector("values", 5, 2**20),)


def terms(clients, vectors=FIVE, threat=None, model=MODEL):
    threat = threat or Threat(colluding=0.0, dropping=0.5, active=False)
    return Terms("run", 7, model, tuple(vectors), threat, clients)


def inputs(number, vectors, seed=0):
    rng = np.random.default_rng([seed, number])
    return [rng.integers(0, v.modulus, v.length, dtype=np.int64) for v in vectors]


@dataclasses.dataclass
class Played:
    """A session as it went: requests and replies by (phase, number), and who gave up with which sentence."""

    server: Server
    clients: list
    replies: dict = dataclasses.field(default_factory=dict)
    requests: dict = dataclasses.field(default_factory=dict)
    aborted: dict = dataclasses.field(default_factory=dict)
    refused: dict = dataclasses.field(default_factory=dict)
    ended: str = ""


def play(agreed, dropped=None, server=None, clients=None, tamper=None, values=None):
    """Plays a session of as many clients as were agreed on, every message through its bytes.

    Args:
      agreed: Terms.
      dropped: By phase, the numbers of clients that vanish before they answer it.
      server: The server, honest or not.
      clients: The clients.
      tamper: From (phase, number, reply) to the reply that arrives.
      values: Inputs by number.
    """
    number = agreed.most_clients
    clients = clients or [Client(agreed, identity(i), checker()) for i in range(number)]
    played = Played(server or Server(agreed, checker()), clients)
    names = {identity(i).fingerprint: i for i in range(number)}
    values = values or [inputs(i, agreed.vectors) for i in range(number)]
    asked, gone = {i: None for i in range(number)}, set()
    steps = ("advertise", "share_keys", "masked_input", "sign_survivors", "unmask")
    for phase, step in enumerate(steps):
        gone |= set((dropped or {}).get(phase, ()))
        for i, request in asked.items():
            if i in gone:
                continue
            played.requests[phase, i] = request
            arguments = ([] if request is None else [request]) + ([values[i]] if phase == 2 else [])
            try:
                reply = getattr(clients[i], step)(*arguments)
            except SecureSumError as error:
                played.aborted[i] = str(error)
                continue
            reply = decode(encode(tamper(phase, i, reply) if tamper else reply))
            played.replies[phase, i] = reply
            try:
                played.server.receive(identity(i).fingerprint, reply)
            except SecureSumError as error:
                played.refused[i] = str(error)
        try:
            sent = played.server.advance()
        except SecureSumError as error:
            played.ended = str(error)
            return played
        asked = {names[name]: decode(encode(message)) for name, message in sorted(sent.items())}
    assert played.server.phase == DONE
    return played


def total(agreed, numbers, seed=0):
    """The sum over some clients, in plain arithmetic."""
    every = [inputs(i, agreed.vectors, seed) for i in numbers]
    return [
        sum(v[j].astype(object) for v in every) % vector.modulus if every else np.zeros(vector.length, object)
        for j, vector in enumerate(agreed.vectors)
    ]


def recovered(played, agreed, victim):
    """What a coordinator that kept all messages makes of a client's input: exact if all of its masks are known.

    Shares that clients revealed are put together wherever there are enough of them; masks of which the secret is known
    are taken off.
    """
    server, reply = played.server, played.replies.get((2, victim))
    if reply is None:
        return None
    number = server._indices[identity(victim).fingerprint]
    revealed = {"seed": {}, "key": {}}
    for (phase, i), message in played.replies.items():
        if phase == 4 and isinstance(message, messages.UnmaskShares):
            holder = server._indices[identity(i).fingerprint]
            alive = set(played.requests[3, i].clients)
            for owner, share in zip(message.owners, message.shares):
                revealed["seed" if owner in alive else "key"].setdefault(owner, {})[holder] = share
    threshold = server.sizes.threshold

    def secret(kind, owner):
        shares = revealed[kind].get(owner, {})
        try:
            return shamir.combine(shares, threshold)
        except SecureSumError:
            return None

    found = [unpack(p, v.length, v.ring) for p, v in zip(reply.vectors, agreed.vectors)]
    known = []
    if (seed := secret("seed", number)) is not None:
        known.append((seed, True))
    for v in played.requests[2, victim].senders:
        own, other = secret("key", number), secret("key", v)
        if own is not None:
            known.append((keys.agree(own, server._keys[v].mask_key, server._session, session.MASKS), v > number))
        elif other is not None:
            mine = server._keys[number].mask_key
            known.append((keys.agree(other, mine, server._session, session.MASKS), v > number))
    for key, added in known:
        for words, v in zip(found, agreed.vectors):
            (v.ring.subtract if added else v.ring.add)(words, mask(key, server._session, v.name, v.length, v.ring))
    return [v.ring.reduced(words) for words, v in zip(found, agreed.vectors)]


def check_hidden(played, agreed, *victims):
    """The coordinator does not get at the inputs of these clients, by all that it ever received."""
    for victim in victims or range(agreed.most_clients):
        found, truth = recovered(played, agreed, victim), inputs(victim, agreed.vectors)
        assert found is None or all(np.mean(f == x) < 0.5 for f, x in zip(found, truth))
