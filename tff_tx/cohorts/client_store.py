"""What clients retain between rounds, by client and round, on the disk: residuals, personal weights."""

from __future__ import annotations

import hashlib
import pathlib
import re
import zlib
from collections.abc import Sequence

import numpy as np

from tff_tx.core import codec, files
from tff_tx.core.errors import UserError

PERSONAL, RESIDUALS, CLIENT_STATES = "personal", "residuals", "client_states"
STORES = (PERSONAL, RESIDUALS, CLIENT_STATES)
"""The directories in a run's that a `ClientStore` may have."""

_VERSION = re.compile(r"round_(\d+)")


class ClientStore:
    """Arrays of each client after each of the rounds it took part in, as long as a run may go back to them.

    A version is a file that is there as a whole or not at all. A run that goes back to the checkpoint after round r
    reads, of every client, the newest version that is not newer than r: so that it goes on as if it had never stopped.

    Args:
      directory: Made when first written to.
      rounds_kept: How many rounds back a checkpoint may lie: versions that none so young could ask for are removed.
    """

    def __init__(self, directory: str, rounds_kept: int):
        self._directory, self._rounds_kept = pathlib.Path(directory), rounds_kept

    def read(self, client_id: str, round_num: int) -> list[np.ndarray] | None:
        """A client's arrays after `round_num` rounds of the run; None: it has none.

        Raises:
          UserError: If the file is damaged.
        """
        versions = [v for v in self._versions(client_id) if v <= round_num]
        if not versions:
            return None
        path = self._path(client_id, max(versions))
        try:
            return codec.decode(path.read_bytes(), max_bytes=None)
        except codec.CodecError as error:
            raise UserError(f"{path} is damaged ({error}): restore it, or start a new run.") from error

    def has(self, client_id: str) -> bool:
        """Whether a client has arrays after any round."""
        return bool(self._versions(client_id))

    def write(self, client_id: str, round_num: int, arrays: Sequence[np.ndarray]) -> None:
        """Keeps a client's arrays after `round_num`, and forgets those that nobody will ask for."""
        path = self._path(client_id, round_num)
        files.make_private(str(self._directory))
        path.parent.mkdir(exist_ok=True)
        with files.atomic(str(path), "wb", durable=False, private=True) as file:
            file.write(codec.encode(arrays, entropy_coding=False))
        old = sorted(v for v in self._versions(client_id) if v <= round_num - self._rounds_kept)
        for version in old[:-1]:
            self._path(client_id, version).unlink()

    def rewind(self, round_num: int) -> None:
        """Forgets all that came after a round: the run goes on from there."""
        for path in self._directory.glob("*/*"):
            found = _VERSION.fullmatch(path.name)
            if found is None or int(found[1]) > round_num:
                path.unlink()

    def checksum(self, round_num: int) -> int:
        """CRC-32 of which version `read` finds of each client, and of its size; the content has a checksum itself."""
        found = 0
        for client in sorted(self._directory.glob("*")):
            if versions := [v for v in _versions(client) if v <= round_num]:
                size = (client / f"round_{max(versions)}").stat().st_size
                found = zlib.crc32(f"{client.name} {max(versions)} {size}\n".encode(), found)
        return found

    def _versions(self, client_id):
        return _versions(self._path(client_id, 0).parent)

    def _path(self, client_id, round_num):
        # Ids may hold anything, also what no file name may.
        client = hashlib.sha256(client_id.encode()).hexdigest()[:32]
        return self._directory / client / f"round_{round_num}"


def _versions(client: pathlib.Path) -> list[int]:
    return [int(found[1]) for path in client.glob("*") if (found := _VERSION.fullmatch(path.name))]
