"""Who masks with whom: the full graph of few clients, a random Harary graph of many; and how many shares are needed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math

import numpy as np

from tff_tx.core.threat import Threat
from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.masks import Stream

FULL_BELOW = 20
"""Clients with fewer others mask with all of them."""
LEAST_HONEST = 3
LEAST_HONEST_SUMMED = 2
"""Of a sum over one honest client and colluders, these subtract what they have sent themselves."""
MOST_CLIENTS = 100_000
SECURITY_BITS = 40
"""With probability 1 - 2^-40 over the graph, no input is exposed."""
FAILURE_BITS = 20
"""With probability 1 - 2^-20 over the dropouts, the sum is found."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """The sizes of a session.

    Attributes:
      clients: n, of whom keys are there.
      degree: k, others that each masks with.
      threshold: t, shares that rebuild a secret.
      least: Fewest clients over whom the sum is taken.
    """

    clients: int
    degree: int
    threshold: int
    least: int

    @property
    def is_full(self) -> bool:
        """Whether everybody masks with everybody; then a client holds a share of its own secrets, too."""
        return self.degree == self.clients - 1


@functools.lru_cache(maxsize=256)
def topology(clients: int, threat: Threat) -> Topology:
    """Degree and threshold for n clients; every party computes them by itself.

    Below 20 clients the graph is full, and of n shares (a client has one of its own) t is the least with

        t > gamma n, against a server that follows the protocol;  2 t > n + gamma n, against one that does not,

    as an active server gets at most one share from each honest client and both from colluders (Bonawitz et al. 2017,
    https://eprint.iacr.org/2017/281, sections 6.1 and 6.2); the sum is taken over t clients, and over 2 more than may
    collude. Above, it is a random k-regular Harary graph with the least even k for which (Bell et al. 2020,
    https://eprint.iacr.org/2020/704, section 3.5, as in Google's implementation)

    1. honest survivors stay connected: a Harary graph falls apart only where k/2 neighbours on the ring are gone in two
       places, so with B = floor(gamma n) + floor(delta n) clients gone
       n (n - k - 1) / 2 * C(n - k, B - k) / C(n, B) < 2^-41;
    2. t1 is the least number with Pr[Hyp(n, floor(gamma n), k) > t1] <= 2^-41 / n, colluders among a client's
       neighbours; against an active server t1 becomes ceil((t1 + k - 5/4) / 2);
    3. Pr[Hyp(n, ceil((1 - delta) n), k) <= t1] < 2^-20 / n: enough neighbours survive. Then t = t1 + 1.

    Raises:
      SecureSumError: If there is none, or fewer than 3 of the clients are honest.
    """
    gone = threat.colluders(clients)
    if clients > MOST_CLIENTS:
        raise SecureSumError(f"{clients} clients are more than {MOST_CLIENTS:,}, the most of a session.")
    if clients - gone < LEAST_HONEST:
        raise SecureSumError(
            f"{clients} clients, of which {gone} may collude, are too few: at least {LEAST_HONEST} must be honest."
        )
    if clients < FULL_BELOW:
        threshold = (clients + gone) // 2 + 1 if threat.active else gone + 1
        threshold = max(2, threshold)
        least = max(threshold, gone + LEAST_HONEST_SUMMED)
        if least > threat.survivors(clients):
            raise SecureSumError(
                f"{least} of {clients} clients are needed against {gone} that collude, and only "
                f"{threat.survivors(clients)} may be left: allow fewer colluders or dropouts, or ask more clients."
            )
        return Topology(clients, clients - 1, threshold, least)
    for degree in range(2, clients - 1, 2):
        threshold = _threshold(clients, degree, threat)
        if threshold is not None:
            return Topology(clients, degree, threshold, threat.survivors(clients))
    raise SecureSumError(
        f"no graph of {clients} clients withstands {threat.colluding:g} of them colluding and {threat.dropping:g} "
        "dropping out: allow fewer, or ask more clients."
    )


def _threshold(clients, degree, threat):
    per_client = math.log(clients)
    security = -(SECURITY_BITS + 1) * math.log(2)
    if _log_disconnected(clients, degree, threat) >= security:
        return None
    most = _quantile(clients, threat.colluders(clients), degree, security - per_client)
    if threat.active:
        most = math.ceil((most + degree - 1.25) / 2)
    too_few = _log_tail(clients, threat.survivors(clients), degree, 0, most)
    return max(most + 1, 2) if too_few < -FAILURE_BITS * math.log(2) - per_client else None


def _log_disconnected(clients, degree, threat):
    gone = threat.colluders(clients) + clients - threat.survivors(clients)
    if degree > gone:
        return -math.inf
    pairs = math.log(clients) + math.log(clients - degree - 1) - math.log(2)
    return pairs + _log_choose(clients - degree, gone - degree) - _log_choose(clients, gone)


def _quantile(clients, marked, drawn, log_probability):
    """The least t with ln Pr[Hyp > t] at most this."""
    return next(t for t in range(drawn + 1) if _log_tail(clients, marked, drawn, t + 1, drawn) <= log_probability)


def _log_tail(clients, marked, drawn, first, last):
    """Logarithm of Pr[first <= Hyp <= last], of drawing without replacement."""
    first, last = max(first, drawn - (clients - marked), 0), min(last, marked, drawn)
    terms = [
        _log_choose(marked, i) + _log_choose(clients - marked, drawn - i) - _log_choose(clients, drawn)
        for i in range(first, last + 1)
    ]
    if not terms:
        return -math.inf
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


def _log_choose(n, k):
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


class Graph:
    """The graph of a session: clients in a random order on a ring, each with the k/2 next to it on both sides.

    Args:
      sizes: Of the session.
      seed: Digest of all clients' keys: nobody who has added a key before the others' were known has chosen the graph.
    """

    def __init__(self, sizes: Topology, seed: bytes):
        self.sizes = sizes
        words = Stream(hashlib.sha256(b"tff_tx secure sums 1 graph" + seed).digest()).words(sizes.clients, _WORD)
        self._order = np.argsort(words, kind="stable")
        self._place = np.argsort(self._order, kind="stable")

    def neighbours(self, client: int) -> frozenset[int]:
        """The others that a client masks with."""
        n = self.sizes.clients
        if self.sizes.is_full:
            return frozenset(range(n)) - {client}
        steps = range(1, self.sizes.degree // 2 + 1)
        place = int(self._place[client])
        return frozenset(int(self._order[(place + sign * step) % n]) for step in steps for sign in (1, -1))

    def holders(self, client: int) -> frozenset[int]:
        """Who holds shares of a client's secrets."""
        return self.neighbours(client) | ({client} if self.sizes.is_full else frozenset())


_WORD = np.dtype(np.uint64)
