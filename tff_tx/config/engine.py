"""Where the clients of a round are computed."""

from __future__ import annotations

import dataclasses
import os

from tff_tx.config.option import Section, option
from tff_tx.config.registries import ENGINES


@dataclasses.dataclass(frozen=True)
class EngineConfig(Section, name="engine"):
    """Engine."""

    name: str = option("local", "Engine that runs the clients; ray: a cluster.", flag="engine", choices=ENGINES)
    threads: int | None = option(
        None,
        "Clients computed at the same time; default: one per processor. Does not change the numbers.",
        least=1,
        may_change=True,
    )
    ray_address: str | None = option(
        None,
        "Cluster to join, host:port of its head or auto; default: one is started on this machine and ends with the "
        "program.",
        may_change=True,
    )
    ray_tls_dir: str | None = option(
        None,
        "Directory with ca.crt, node.crt and node.key (programs.certs): Ray encrypts, and rejects peers without a "
        "certificate of that authority.",
        may_change=True,
    )
    ray_cpus_per_worker: int = option(
        1, "Processors, and concurrent clients, of a worker process.", least=1, may_change=True
    )
    ray_leaves: int = option(
        256,
        "Maximum number of parts that a cohort is cut into, which workers take from each other. Other numbers round "
        "sums differently.",
        least=1,
    )
    ray_client_seconds: float = option(
        3600.0,
        "Time limit of a client, after which it is started again elsewhere, and then left out.",
        least=1.0,
        may_change=True,
    )
    ray_worker_seconds: float = option(
        300.0,
        "Time that clients wait for a node that can run them, before they are left out.",
        least=1.0,
        may_change=True,
    )

    @property
    def num_threads(self) -> int:
        """Clients computed at the same time."""
        return self.threads or len(os.sched_getaffinity(0))
