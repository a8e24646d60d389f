"""Sums of ciphertexts in simulation: clients, aggregator and key holder in one process, each with its own keys."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from cryptography.hazmat.primitives import serialization

from tff_tx.core import certificates
from tff_tx.core.threat import Threat
from tff_tx.federation.layout import Layout
from tff_tx.federation.secure_sums import Authority, Identity, Terms, encryption, key_holder
from tff_tx.federation.simulated_sums import broadcast_digest, client_name
from tff_tx.runtime import Hook, Job, TooFewClientsError


@dataclasses.dataclass(frozen=True)
class _Encrypted:
    """What a client does to its contribution: it sends ciphertexts, and nothing to the engine's sum."""

    owner: EncryptedSums
    terms: Terms

    def __call__(self, contribution: list, job: Job) -> tuple[list, list, dict]:
        self.owner.send(self.terms, client_name(job.client), contribution)
        zeros = [tf.zeros_like(leaf) for leaf in contribution]
        return zeros, zeros, {}


class EncryptedSums(Hook):
    """Encrypts clients' numbers where they are trained, adds ciphertexts, and has the key holder decrypt the sum.

    The result is that of plain arithmetic modulo M, to the bit. Clients are named by `tasks.client_arguments`;
    certificates are of an authority of this process alone.

    Args:
      least: Fewest clients of a sum, the key holder's policy.
      run: Name of the run.
    """

    local_only = "its ciphertexts are added up in the process that coordinates; use masks"

    def __init__(self, least: int, run: str = "simulation"):
        self._least, self._run, self._round_num = max(2, least), run, 0
        self._issuer, self._lock = certificates.issue("simulation"), threading.Lock()
        self._authority = Authority(self._issuer[1].public_bytes(serialization.Encoding.DER))
        self._identities: dict[str, Identity] = {}
        self._holder = key_holder.KeyHolder(self._identity("key holder"), self._authority, self._least, run)
        self._public = self._holder.public
        self._context = self._public.checked(run, self._authority)

    def bind(self, engine: Any) -> None:
        self._layout = Layout.of(engine.parts)

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        self._round_num += 1
        names = [client_name(client) for client in clients]
        vectors, most = self._layout.vectors(), max(1, len(names))
        self._terms = Terms(self._run, self._round_num, broadcast_digest(broadcast), vectors, Threat(0.0, 0.0), most)
        self._aggregator = encryption.Aggregator(self._terms, self._context, self._authority)
        self._order = names

    def start_client(self, job: Job) -> Job:
        return dataclasses.replace(job, at_client=(*job.at_client, _Encrypted(self, self._terms)))

    def send(self, terms: Terms, name: str, contribution: list) -> None:
        """Encrypts as a client, and hands the ciphertexts to the aggregator."""
        with self._lock:
            sent = encryption.encrypt(
                terms, self._identity(name), self._public, self._authority, self._layout.join(contribution)
            )
            self._aggregator.receive(*sent)

    def end_sum(self, total: list, failures: Mapping[int, str]) -> list:
        alive = [name for position, name in enumerate(self._order) if position not in failures]
        if len(alive) < self._least:
            raise TooFewClientsError(len(alive), self._least, failures)
        marks = [self._identity(name).fingerprint for name in alive]
        found = self._holder.decrypt(self._terms, *self._aggregator.add(marks))
        key_holder.check_sums(self._terms, marks, found, self._public, self._authority)
        return self._layout.split(found.sums, [np.dtype(np.int64)] * len(self._layout.moduli))

    def _identity(self, name: str) -> Identity:
        if name not in self._identities:
            self._identities[name] = Identity.of(certificates.issue(name[:60], authority=self._issuer))
        return self._identities[name]
