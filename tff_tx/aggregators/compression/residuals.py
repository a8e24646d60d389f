"""What error feedback has not sent yet, by client and round, on the disk."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

import numpy as np

from tff_tx.aggregators.compression import codec

_VERSION = re.compile(r"round_(\d+)")


class ResidualStore:
    """Arrays of each client after each of the rounds it took part in, as long as a run may go back to them.

    A version is a file that is there as a whole or not at all. A run that goes back to the checkpoint after round r
    reads, of every client, the newest version that is not newer than r: so that it goes on as if it had never stopped.

    Args:
      directory: Made when first written to.
      rounds_kept: How many rounds back a checkpoint may lie: versions that none so young could ask for are removed.
    """

    def __init__(self, directory: str, rounds_kept: int):
        self._directory, self._rounds_kept = directory, rounds_kept

    def read(self, client_id: str, round_num: int) -> list[np.ndarray] | None:
        """A client's arrays after `round_num` rounds of the run; None: it has none.

        Raises:
          codec.CodecError: If the file is damaged.
        """
        versions = [v for v in self._versions(client_id) if v <= round_num]
        if not versions:
            return None
        with open(self._path(client_id, max(versions)), "rb") as file:
            return codec.decode(file.read())

    def write(self, client_id: str, round_num: int, arrays: Sequence[np.ndarray]) -> None:
        """Keeps a client's arrays after `round_num`, and forgets those that nobody will ask for."""
        path = self._path(client_id, round_num)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.tmp"
        with open(temporary, "wb") as file:
            file.write(codec.encode(arrays, entropy_coding=False))
        os.replace(temporary, path)
        old = sorted(v for v in self._versions(client_id) if v <= round_num - self._rounds_kept)
        for version in old[:-1]:
            os.remove(self._path(client_id, version))

    def rewind(self, round_num: int) -> None:
        """Forgets all that came after a round: the run goes on from there."""
        if not os.path.isdir(self._directory):
            return
        for client in os.listdir(self._directory):
            for name in os.listdir(os.path.join(self._directory, client)):
                found = _VERSION.fullmatch(name)
                if found is None or int(found[1]) > round_num:
                    os.remove(os.path.join(self._directory, client, name))

    def _versions(self, client_id):
        try:
            names = os.listdir(self._client_directory(client_id))
        except FileNotFoundError:
            return []
        return [int(found[1]) for found in map(_VERSION.fullmatch, names) if found]

    def _client_directory(self, client_id):
        # Ids may hold anything, also what no file name may.
        return os.path.join(self._directory, hashlib.sha256(client_id.encode()).hexdigest()[:32])

    def _path(self, client_id, round_num):
        return os.path.join(self._client_directory(client_id), f"round_{round_num}")
