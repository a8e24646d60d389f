"""How long a round on a cluster waits for what, and what it did."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long a round waits for what, in seconds.

    Attributes:
      client: For a client to finish; its worker is ended then, and after three more tries it is left out.
      worker: For a worker that can run a client, when there is none; the client is left out then.
    """

    client: float = 3600.0
    worker: float = 300.0


@dataclasses.dataclass
class RoundRecord:
    """What a round did.

    Attributes:
      broadcast_bytes: Weights that were put up to be fetched, once for all nodes.
      moved_bytes: What crossed from node to node: weights to all nodes but the coordinator's, and sums.
      sums: How many sums workers gave away.
      workers: How many worked.
      steals: How often a worker took from another's queue.
      lost_workers: How many ended or vanished.
      busy_seconds: Summed over the workers' processors, what they computed.
      read_seconds: The same, what they only read data to compute with.
      idle_seconds: The same, what they did neither while clients ran.
      data_seconds: Of the busy time, what they waited for data.
    """

    broadcast_bytes: int = 0
    moved_bytes: int = 0
    sums: int = 0
    workers: int = 0
    steals: int = 0
    lost_workers: int = 0
    busy_seconds: float = 0.0
    read_seconds: float = 0.0
    idle_seconds: float = 0.0
    data_seconds: float = 0.0
