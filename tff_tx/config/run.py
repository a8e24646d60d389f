"""Where the clients are computed, and the run: its length, its directory and what it records."""

from __future__ import annotations

import dataclasses
import os

from tff_tx.config.option import SEED, Section, option
from tff_tx.config.registries import ENGINES, TRACKERS, TRANSPORTS


@dataclasses.dataclass(frozen=True)
class EngineConfig(Section, name="engine"):
    """Engine."""

    name: str = option(
        "local",
        "Engine that runs the clients; ray: a cluster; federation: participants with data of their own.",
        flag="engine",
        choices=ENGINES,
    )
    threads: int | None = option(
        None,
        "Clients computed at the same time; default: one per processor. Does not change the numbers.",
        least=1,
        most=1024,
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

    federation_transport: str = option(
        "grpc",
        "What carries the messages of a federation: gRPC, or a SuperLink of Flower and the relay in deploy/flower.",
        flag="transport",
        choices=TRANSPORTS,
        may_change=True,
    )
    federation_socket: str = option(
        "relay.sock", "Unix socket of the coordinator, to which the relay of Flower connects.", may_change=True
    )
    federation_address: str = option(
        "0.0.0.0:8443",
        "Address, host:port, at which participants join the coordinator.",
        is_address=True,
        may_change=True,
    )
    federation_certificate: str = option(
        "certs/coordinator", "Directory of the coordinator's kit (programs.certs).", may_change=True
    )
    federation_participants: str | None = option(
        None,
        "List of participants' certificates; default: participants.json beside the kit's directory, where "
        "programs.certs writes it. It is read again whenever it changes.",
        may_change=True,
    )
    federation_join_seconds: float = option(
        600.0, "Time limit for all participants to join before training.", least=1.0, may_change=True
    )
    federation_phase_seconds: float = option(
        3600.0,
        "Time limit of a participant's answer, after which its clients are left out of the round.",
        least=1.0,
        may_change=True,
    )
    federation_silence_seconds: float = option(
        60.0,
        "Time without a sign of life after which the clients of a participant that owes an answer are left out.",
        least=1.0,
        may_change=True,
    )

    federation_secure_seconds: float = option(
        60.0,
        "Time limit of an answer in the phases of a secure sum after training.",
        least=1.0,
        may_change=True,
    )

    @property
    def num_threads(self) -> int:
        """Clients computed at the same time."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class RunSettings(Section, name="run"):
    """Run."""

    directory: str | None = option(
        None, "Run directory; default: runs/ and the data set's name.", flag="run_dir", may_change=True
    )
    seed: int = option(1, "Seed of everything random.", **SEED)
    rounds: int = option(30, "Number of rounds.", least=1, may_change=True, stated=True)
    rounds_per_evaluation: int = option(10, "Rounds between evaluations; 0: never.", least=0, may_change=True)
    rounds_per_checkpoint: int = option(
        10, "Rounds between checkpoints; with {privacy.mechanism}, every round has one.", least=1, may_change=True
    )
    eval_clients: int = option(
        50, "Held-out clients of the evaluations during training; all at the end.", least=1, may_change=True
    )
    eval_batch_size: int = option(32, "Examples per batch in evaluation.", least=1, most=2**20, may_change=True)
    patience: int | None = option(
        None,
        "Early stopping: evaluations without improvement of {run.monitor} before the run ends.",
        least=1,
        may_change=True,
    )
    keep_best: bool = option(
        False, "Saves the model of the evaluation with the best {run.monitor} instead of the last."
    )
    monitor: str = option("loss", "Evaluation metric of {run.patience} and {run.keep_best}.")
    participant_evaluation: bool = option(
        False,
        "Evaluates at the participants of a federation, too, each on held-out rows of its own (programs.participate).",
    )
    keep_updates: bool = option(
        False, "Stores what each client of each round contributes in updates/, for programs.contribution."
    )
    client_state_bytes: int | None = option(
        None,
        "Maximum size of what clients retain between rounds in the run directory: weights of their own, control "
        "variates, residuals. A run that may need more is rejected; default: what its disk has room for.",
        least=1,
        most=2**63 - 1,
        may_change=True,
    )
    profile: bool = option(False, "Writes a trace of the second round, which TensorBoard shows.", may_change=True)
    trackers: tuple[str, ...] = option(
        (),
        "Experiment trackers that get the figures of metrics.csv, beside TensorBoard.",
        choices=TRACKERS,
        may_change=True,
    )
    push_to_hub: str | None = option(
        None,
        "Repository of the Hugging Face hub, OWNER/NAME, that the trained model is uploaded to; one made for it is "
        "private.",
        may_change=True,
    )
