"""Distributed noise in simulation: each client adds its share to what its graph has computed, before it is masked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.federation.secure_sums.noise import Noise, Share
from tff_tx.runtime import Hook, Job, TooFewClientsError


@dataclasses.dataclass(frozen=True)
class _Noised:
    """What a client does to its contribution, on whatever machine it is simulated."""

    share: Share
    positions: tuple[int, ...]
    key: bytes | None

    def __call__(self, contribution: list, job: Job) -> tuple[list, list, dict]:
        leaves = [tf.convert_to_tensor(leaf) for leaf in self.share.add(contribution, self.positions, self.key)]
        return leaves, leaves, {}


class ParticipantNoise(Hook):
    """Adds a share of discrete noise at each client, outside of its graph, to the sums of one modulus.

    It precedes hooks that mask. A round of fewer clients than the accounting assumes is none.

    Args:
      noise: Of a share.
      modulus: Of the sums that it is for.
      least: Fewest clients of a sum.
      seed: None: each share has a key of the operating system's randomness, which nobody stores. A number, for
        repeatable experiments, decides all shares, and protects nobody; rounds differ by the model that they start
        from.
    """

    def __init__(self, noise: Noise, modulus: int, least: int, seed: int | None = None):
        self._share, self._least, self._seed = Share(noise, modulus), least, seed

    def bind(self, engine: Any) -> None:
        self._positions = self._share.positions(engine.parts.moduli)

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        self._round_key, self._clients, self._started = None, len(clients), 0
        if self._seed is not None:
            self._round_key = hashlib.sha256(f"noise/{self._seed}/".encode())
            for leaf in broadcast:
                self._round_key.update(np.asarray(leaf).tobytes())

    def start_client(self, job: Job) -> Job:
        key = None
        if self._round_key is not None:
            key = hashlib.sha256(self._round_key.digest() + self._name(job.client)).digest()
        noised = _Noised(self._share, self._positions, key)
        return dataclasses.replace(job, at_client=(*job.at_client, noised))

    def _name(self, client):
        self._started += 1
        return bytes(client["client_id"]) if isinstance(client, Mapping) else str(self._started).encode()

    def end_sum(self, total: list, failures: Mapping[int, str]) -> list:
        alive = self._clients - len(failures)
        if alive < self._least:
            raise TooFewClientsError(alive, self._least, failures)
        return total
