"""What a party retains of an intersection that was interrupted: its secret, and sets as far as it has masked them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from tff_tx.core import files
from tff_tx.federation.alignment.identifiers import POINT_BYTES

_FILE = "state.json"
_ARRIVING, _COMPLETE = ".points", ".set"


class State:
    """A party's part of one intersection, in a directory that only its user can read.

    Masked points are appended to a file for each set, so that a party that was killed loses the message it was at.

    Args:
      path: The directory; None: nothing is stored.
      tag: What the state depends on, such as a digest of the table: another one begins anew.
    """

    def __init__(self, path: str | None = None, tag: str = ""):
        self._path, self._tag, self._stored = path, tag, {}

    def begin(self, identifier: str) -> tuple[bytes, dict[str, tuple[bytearray, bool]]]:
        """Begins or resumes an intersection.

        Args:
          identifier: Its own, the same at all parties.

        Returns:
          64 bytes of secret, and by owner what is masked of its set and whether it is complete.
        """
        stored = self._read()
        if stored.get("identifier") != identifier or stored.get("tag") != self._tag:
            self.discard()
            stored = {"identifier": identifier, "tag": self._tag, "secret": os.urandom(64).hex(), "owners": {}}
        self._stored, found = stored, {}
        self._write()
        for owner, name in stored["owners"].items():
            for ending in (_ARRIVING, _COMPLETE):
                if os.path.exists(self._file(name, ending)):
                    with open(self._file(name, ending), "rb") as file:
                        masked = bytearray(file.read())
                    del masked[len(masked) - len(masked) % POINT_BYTES :]  # of a message that was being written
                    found[owner] = masked, ending == _COMPLETE
        return bytes.fromhex(stored["secret"]), found

    @property
    def session(self) -> str:
        """What stands for the secrets that all parties have used so far; "": nothing is stored."""
        return self._stored.get("session", "")

    def append(self, owner: str, start: int, masked: bytes, session: str) -> None:
        """Stores points of a set, of which `start` bytes are there."""
        if self._path is None:
            return
        if owner not in self._stored["owners"]:
            self._stored["session"] = session
            self._stored["owners"][owner] = hashlib.sha256(owner.encode()).hexdigest()[:16]
            self._write()
        path = self._file(self._stored["owners"][owner], _ARRIVING)
        with open(path, "r+b" if start else "wb", opener=files.private_opener) as file:
            file.seek(start)
            file.write(masked)

    def complete(self, owner: str) -> None:
        """A set has all its points: none is taken any more, also when this party is started again."""
        if self._path is not None:
            name = self._stored["owners"][owner]
            os.replace(self._file(name, _ARRIVING), self._file(name, _COMPLETE))

    def discard(self) -> None:
        """Deletes all of it, the secret too."""
        self._stored = {}
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)

    def _write(self):
        if self._path is not None:
            files.make_private(self._path)
            with files.atomic(os.path.join(self._path, _FILE), private=True) as file:
                json.dump(self._stored, file)

    def _read(self):
        try:
            return files.parse_json(os.path.join(self._path or "", _FILE))
        except (OSError, ValueError):
            return {}

    def _file(self, name, ending):
        return os.path.join(self._path or "", name + ending)
