"""What the parties of a session agree on before it: what is summed, in which round, against which threat."""

from __future__ import annotations

import dataclasses
import json

from tff_tx.core.threat import Threat
from tff_tx.federation.secure_sums.graphs import Topology, topology
from tff_tx.federation.secure_sums.identities import digest
from tff_tx.federation.secure_sums.modular import Ring

DIGEST_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Vector:
    """A vector that every client has, and whose sum modulo M is wanted.

    Attributes:
      name: Different within a session.
      length: Of the vector.
      modulus: M.
    """

    name: str
    length: int
    modulus: int

    @property
    def ring(self) -> Ring:
        """Of its numbers."""
        return Ring(self.modulus)


@dataclasses.dataclass(frozen=True)
class Terms:
    """What the parties agree on; each makes its own, and a client from what it has received.

    Attributes:
      run: Name of the run.
      round_num: Of the round.
      model: SHA-256 of the broadcast that the client trains from.
      vectors: What is summed.
      threat: What the session withstands.
      most_clients: For so many the moduli are large enough.

    Raises:
      ValueError: If two vectors have one name, or the digest another length.
    """

    run: str
    round_num: int
    model: bytes
    vectors: tuple[Vector, ...]
    threat: Threat
    most_clients: int

    def __post_init__(self):
        names = [vector.name for vector in self.vectors]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"vectors={names}: must be one or more, of different names.")
        if len(self.model) != DIGEST_BYTES:
            raise ValueError(f"model={self.model!r}: must be a digest of {DIGEST_BYTES} bytes.")

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        facts = dataclasses.asdict(self)
        facts["model"] = self.model.hex()
        return digest("terms", json.dumps(facts, sort_keys=True).encode())

    def sizes(self, clients: int) -> Topology:
        """Degree and thresholds for so many clients, see `graphs.topology`."""
        return topology(clients, self.threat)
