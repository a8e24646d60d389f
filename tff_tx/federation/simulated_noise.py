"""Distributed noise in simulation: each client adds its share to what its graph has computed, before it is masked."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.federation.secure_sums.masks import KEY_BYTES, Stream
from tff_tx.federation.secure_sums.noise import Noise
from tff_tx.runtime import Hook, Job, TooFewClientsError


@dataclasses.dataclass(frozen=True)
class _Noised:
    """What a client does to its contribution, on whatever machine it is simulated."""

    noise: Noise
    modulus: int
    positions: tuple[int, ...]
    key: bytes | None

    def __call__(self, contribution: list, job: Job) -> tuple[list, list, dict]:
        leaves, stream = list(contribution), Stream(self.key or secrets.token_bytes(KEY_BYTES))
        for position in self.positions:
            leaf = np.asarray(leaves[position])
            noised = leaf.astype(np.int64) + self.noise.draw(leaf.size, stream).reshape(leaf.shape)
            leaves[position] = tf.convert_to_tensor((noised % self.modulus).astype(leaf.dtype))
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
        self._noise, self._modulus, self._least, self._seed = noise, modulus, least, seed

    def bind(self, engine: Any) -> None:
        self._positions = tuple(i for i, m in enumerate(engine.parts.moduli) if m == self._modulus)
        if not self._positions:
            raise ValueError(f"the process has no secure sum modulo {self._modulus}, so nothing would have noise.")

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
        noised = _Noised(self._noise, self._modulus, self._positions, key)
        return dataclasses.replace(job, at_client=(*job.at_client, noised))

    def _name(self, client):
        self._started += 1
        return bytes(client["client_id"]) if isinstance(client, Mapping) else str(self._started).encode()

    def end_sum(self, total: list, failures: Mapping[int, str]) -> list:
        alive = self._clients - len(failures)
        if alive < self._least:
            raise TooFewClientsError(alive, self._least, failures)
        return total
