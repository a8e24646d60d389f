"""What clients retain between rounds, by client and round, on the disk: residuals, personal weights."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import threading
import zlib
from collections.abc import Sequence

import numpy as np

from tff_tx.core import codec, files
from tff_tx.core.errors import UserError

PERSONAL, RESIDUALS, CLIENT_STATES = "personal", "residuals", "client_states"
"""The directories in a run's that a `ClientStore` may have."""

_VERSION = re.compile(r"round_(\d+)")
_MODULUS = 2**64


@dataclasses.dataclass
class _Known:
    """What a store has, so that nobody needs to look at the clients that a round did not ask.

    Attributes:
      total: Sum over clients of the `_term` of their newest version until round `through`.
      through: Rounds until this one are in `total`.
      newest: The round that `changes` are of; there are no later versions.
      changes: What it adds to `total`, by the name of the client's directory.
    """

    total: int
    through: int
    newest: int
    changes: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, round_num: int, client: str, change: int) -> None:
        """Counts a version of a round that is `newest` or later."""
        if round_num > self.newest:
            self.total, self.through = self.total + sum(self.changes.values()), self.newest
            self.newest, self.changes = round_num, {}
        self.changes[client] = self.changes.get(client, 0) + change


class ClientStore:
    """Arrays of each client after each of the rounds it took part in, as long as a run may go back to them.

    A version is a file that is there as a whole or not at all. A run that goes back to the checkpoint after round r
    reads, of every client, the newest version that is not newer than r: so that it goes on as if it had never stopped.
    After the first `rewind` of a process, a round costs what its own clients do, however many others there are.

    Args:
      directory: Made when first written to.
      rounds_kept: How many rounds back a checkpoint may lie: versions that none so young could ask for are removed.
    """

    def __init__(self, directory: str, rounds_kept: int):
        self._directory, self._rounds_kept = pathlib.Path(directory), rounds_kept
        self._known: _Known | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The directory's, in the run's."""
        return self._directory.name

    def read(self, client_id: str, round_num: int) -> list[np.ndarray] | None:
        """A client's arrays after `round_num` rounds of the run; None: it has none.

        Raises:
          UserError: If the file is damaged.
        """
        client = self._client(client_id)
        newest = _newest(_versions(client), round_num)
        if newest is None:
            return None
        path = client / f"round_{newest}"
        try:
            return codec.decode(path.read_bytes(), max_bytes=None)
        except codec.CodecError as error:
            raise UserError(f"{path} is damaged ({error}): restore it, or start a new run.") from error

    def exists(self) -> bool:
        """Whether anything has been written to it, and is there."""
        return self._directory.is_dir()

    def has(self, client_id: str) -> bool:
        """Whether a client has arrays after any round."""
        return bool(_versions(self._client(client_id)))

    def write(self, client_id: str, round_num: int, arrays: Sequence[np.ndarray]) -> None:
        """Keeps a client's arrays after `round_num`, and forgets those that nobody will ask for."""
        client, message = self._client(client_id), codec.encode(arrays, entropy_coding=False)
        versions = _versions(client)
        if not versions:
            files.make_private(str(self._directory))
            client.mkdir(exist_ok=True)
        before = _term_of(client, _newest(versions, round_num))
        with files.atomic(str(client / f"round_{round_num}"), "wb", durable=False, private=True) as file:
            file.write(message)
        with self._lock:
            if self._known is not None:
                self._known.add(round_num, client.name, _term(client.name, round_num, len(message)) - before)
        for version in sorted(v for v in versions if v <= round_num - self._rounds_kept)[:-1]:
            (client / f"round_{version}").unlink()

    def rewind(self, round_num: int) -> None:
        """Forgets all that came after a round: the run goes on from there."""
        with self._lock:
            if self._known is None or round_num < self._known.through:
                self._known = _Known(self._survey(round_num, removes=True), round_num, round_num)
            elif round_num < self._known.newest:
                for client in self._known.changes:
                    (self._directory / client / f"round_{self._known.newest}").unlink(missing_ok=True)
                self._known = _Known(self._known.total, self._known.through, self._known.through)

    def checksum(self, round_num: int) -> int:
        """Of which version `read` finds of each client, and of its size; the content has a checksum itself.

        Before the first `rewind` it is of what is on the disk, and takes a look at all clients.
        """
        with self._lock:
            if self._known is None or round_num < self._known.through:
                return self._survey(round_num) % _MODULUS
            changes = self._known.changes.values() if round_num >= self._known.newest else ()
            return (self._known.total + sum(changes)) % _MODULUS

    def _survey(self, round_num: int, removes: bool = False) -> int:
        """The sum over all clients of what they have after a round; with `removes`, they lose the rest."""
        total = 0
        for name in _names(self._directory):
            client = self._directory / name
            found = {file: _version(file) for file in _names(client)}
            versions = [version for version in found.values() if version is not None]
            total += _term_of(client, _newest(versions, round_num))
            for file, version in found.items() if removes else ():
                if version is None or version > round_num:
                    (client / file).unlink()
        return total

    def _client(self, client_id: str) -> pathlib.Path:
        # Ids may hold anything, also what no file name may.
        return self._directory / hashlib.sha256(client_id.encode()).hexdigest()[:32]


def _names(directory: pathlib.Path) -> list[str]:
    """What is in a directory; in one that is not there, nothing."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.listdir(directory)
    return []


def _version(name: str) -> int | None:
    found = _VERSION.fullmatch(name)
    return int(found[1]) if found else None


def _versions(client: pathlib.Path) -> list[int]:
    return [version for version in map(_version, _names(client)) if version is not None]


def _newest(versions: Sequence[int], round_num: int) -> int | None:
    return max((v for v in versions if v <= round_num), default=None)


def _term(client: str, version: int, size: int) -> int:
    return zlib.crc32(f"{client} {version} {size}".encode())


def _term_of(client: pathlib.Path, version: int | None) -> int:
    """What a client's version adds to a checksum, whose order of clients does not matter."""
    return 0 if version is None else _term(client.name, version, (client / f"round_{version}").stat().st_size)
