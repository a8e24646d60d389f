"""Secure sums in simulation: the protocol among the clients of each round, whatever engine trains them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from cryptography.hazmat.primitives import serialization

from tff_tx.core import certificates
from tff_tx.federation.layout import Layout
from tff_tx.federation.secure_sums import (
    Authority,
    Client,
    Identity,
    SecureSumError,
    Server,
    Terms,
    Threat,
    decode,
    encode,
)
from tff_tx.federation.secure_sums.session import Masker
from tff_tx.runtime import Hook, Job, TooFewClientsError


@dataclasses.dataclass(frozen=True)
class _Masked:
    """What a client does to its contribution, on whatever machine it is simulated."""

    masker: Masker
    layout: Layout

    def __call__(self, contribution: list, job: Job) -> tuple[list, list, dict]:
        masked = self.masker(self.layout.join(contribution))
        leaves = [tf.convert_to_tensor(leaf) for leaf in self.layout.split(masked, self.layout.dtypes)]
        return leaves, leaves, {}


def broadcast_digest(broadcast: list) -> bytes:
    """SHA-256 of all leaves that the server broadcasts in a round."""
    found = hashlib.sha256()
    for leaf in broadcast:
        found.update(np.asarray(leaf).tobytes())
    return found.digest()


class SimulatedSums(Hook):
    """Runs the protocol of `secure_sums` among the clients of a round; each message passes through its bytes.

    Keys are exchanged before clients train, inputs are masked where they are trained, and the masked sums that an
    engine adds up are unmasked by those who have not failed. A client that fails has dropped out in between. The result
    is that of plain arithmetic modulo M, to the bit. Clients are named by `tasks.client_arguments`; their certificates
    are of an authority of this process alone.

    Args:
      threat: What a round withstands.
      run: Name of the run.
    """

    def __init__(self, threat: Threat, run: str = "simulation"):
        self._threat, self._run, self._round_num = threat, run, 0
        self._issuer = certificates.issue("simulation")
        self._authority = Authority(self._issuer[1].public_bytes(serialization.Encoding.DER))
        self._identities: dict[str, Identity] = {}

    def bind(self, engine: Any) -> None:
        self._layout = Layout.of(engine.parts)

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        self._round_num += 1
        names = [client_name(client) for client in clients]
        model, vectors, most = broadcast_digest(broadcast), self._layout.vectors(), max(1, len(names))
        terms = Terms(self._run, self._round_num, model, vectors, self._threat, most)
        try:
            self._sizes = terms.sizes(len(names))
        except SecureSumError as error:
            raise TooFewClientsError(
                len(names), len(names) + 1, dict.fromkeys(range(len(names)), str(error))
            ) from error
        self._server, self._order = Server(terms, self._authority), names
        self._clients = {name: Client(terms, self._identity(name), self._authority) for name in names}
        self._by_mark = {self._identity(name).fingerprint: name for name in names}
        self._answer({mark: None for mark in self._by_mark}, "advertise")
        self._answer(self._server.advance(), "share_keys")
        shares = self._server.advance()
        self._maskers = {
            self._by_mark[mark]: self._clients[self._by_mark[mark]].mask(_sent(message))
            for mark, message in shares.items()
        }

    def start_client(self, job: Job) -> Job:
        masked = _Masked(self._maskers[client_name(job.client)], self._layout)
        return dataclasses.replace(job, at_client=(*job.at_client, masked))

    def end_sum(self, total: list, failures: Mapping[int, str]) -> list:
        alive = [name for position, name in enumerate(self._order) if position not in failures]
        if len(alive) < self._sizes.least:
            raise TooFewClientsError(len(alive), self._sizes.least, failures)
        marks = [self._identity(name).fingerprint for name in alive]
        self._server.add_masked(marks, [v.astype(np.uint64) for v in self._layout.join(total)])
        self._answer(self._server.advance(), "sign_survivors")
        self._answer(self._server.advance(), "unmask")
        self._server.advance()
        sums = self._layout.split(self._server.sums)
        self._forget()
        return sums

    def fail_round(self) -> None:
        self._forget()

    def _answer(self, messages: Mapping[bytes, Any], step: str) -> None:
        for mark, message in messages.items():
            arguments = [] if message is None else [_sent(message)]
            reply = getattr(self._clients[self._by_mark[mark]], step)(*arguments)
            self._server.receive(mark, _sent(reply))

    def _identity(self, name: str) -> Identity:
        if name not in self._identities:
            self._identities[name] = Identity.of(certificates.issue(name[:60], authority=self._issuer))
        return self._identities[name]

    def _forget(self) -> None:
        self._server, self._clients, self._maskers = None, {}, {}


def _sent(message: Any) -> Any:
    return decode(encode(message))


def client_name(client: Any) -> str:
    """The id of a client as `tasks.client_arguments` has it."""
    found = client["client_id"]
    return found.decode() if isinstance(found, bytes) else str(found)
