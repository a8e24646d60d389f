"""The clients of a round: which are asked, their devices, and the attackers and canaries among them."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import MOST_MODELS, Section, option
from tff_tx.config.registries import ATTACKS

ADAPTIVE_SAMPLERS = ("oort", "power_of_choice", "bandit")
SAMPLERS = ("uniform", "poisson", "by_size", "min_separation", "fixed", *ADAPTIVE_SAMPLERS)
AVAILABILITIES = ("always", "diurnal")


_LONGEST = 1e9
"""Simulated seconds, of which sums are still numbers."""


@dataclasses.dataclass(frozen=True)
class CohortConfig(Section, name="cohort"):
    """Client sampling."""

    clients_per_round: int = option(5, "Cohort size.", least=1, stated=True)
    sampling: str = option(
        "uniform",
        "Client sampling: a fixed number of clients; each client independently with the same probability (poisson); in "
        "proportion to their examples; with a minimum separation between a client's rounds; fixed: replayed from "
        "{cohort.cohorts}; or by clients' training losses: oort (and speed), power_of_choice, or a bandit.",
        choices=SAMPLERS,
    )
    min_separation: int | None = option(
        None,
        "A client is sampled at most once in this many consecutive rounds, with {cohort.sampling}=min_separation; "
        "default: as many as the number of clients allows.",
        least=1,
    )
    cohorts: str | None = option(
        None, "Record to replay with {cohort.sampling}=fixed: cohorts.jsonl of an earlier run.", is_path=True
    )
    fairness_floor: float = option(
        0.1,
        "Share of a cohort that goes to the clients that took part least recently, with samplers that go by losses.",
        least=0.0,
        most=1.0,
    )
    over_selection: float = option(
        1.0, "Samples this many times {cohort.clients_per_round}; the first to report count.", least=1.0
    )
    min_clients: int = option(1, "A round with fewer reports is retried with another cohort.", least=1, may_change=True)
    max_round_retries: int = option(3, "Retries of a round before the run ends.", least=0, may_change=True)
    buffer_size: int | None = option(
        None,
        "FedBuff: a round is a server update, made as soon as this many clients have reported, while the others go on "
        "with the models they have.",
        least=1,
    )
    concurrency: int | None = option(
        None, "FedBuff: clients at work at the same time; default: {cohort.clients_per_round}.", least=1
    )
    staleness_exponent: float = option(
        0.5,
        "FedBuff: an update that is tau server updates old is scaled by (1 + tau)^-a with this a; 0.5 is the paper's.",
        least=0.0,
    )
    max_staleness: int = option(
        10, "FedBuff: older updates are dropped; this many models are stored.", least=0, most=MOST_MODELS
    )

    @property
    def is_adaptive(self) -> bool:
        """Whether the sampler goes by clients' losses."""
        return self.sampling in ADAPTIVE_SAMPLERS

    @property
    def is_buffered(self) -> bool:
        """Whether rounds are asynchronous."""
        return self.buffer_size is not None

    @property
    def num_concurrent(self) -> int:
        """Of FedBuff, how many clients are at work at the same time."""
        return self.concurrency or self.clients_per_round


@dataclasses.dataclass(frozen=True)
class DevicesConfig(Section, name="devices"):
    """Simulated devices."""

    dropout_rate: float = option(0.0, "Probability that a client vanishes in a round.", least=0.0, below=1.0)
    report_deadline: float | None = option(
        None, "Simulated seconds a client has to report; default: no deadline.", above=0.0, most=_LONGEST
    )
    seconds_per_example: float = option(
        0.0, "Simulated training time of the median device, in seconds per example.", least=0.0, most=_LONGEST
    )
    speed_spread: float = option(
        0.0, "Standard deviation of the logarithm of device speeds.", flag="device_speed_spread", least=0.0, most=10.0
    )
    bytes_per_second: float | None = option(
        None,
        "Simulated bandwidth of a device; default: transfers take no time.",
        flag="device_bytes_per_second",
        least=1e-6,
    )
    round_overhead_seconds: float = option(
        0.0, "Simulated seconds of a round besides its clients' work.", least=0.0, most=_LONGEST
    )
    availability: str = option(
        "always", "When devices can be sampled: always, or mostly at night.", choices=AVAILABILITIES
    )

    @property
    def takes_time(self) -> bool:
        """Whether clients' work takes simulated time."""
        return self.seconds_per_example > 0 or self.bytes_per_second is not None


@dataclasses.dataclass(frozen=True)
class AttackConfig(Section, name="attack"):
    """Simulated attacks."""

    name: str = option(
        "none",
        "Behaviour of attackers among the training clients: train on flipped labels, or with a backdoor; send a scaled "
        "backdoored update (model_replacement), a sign-flipped one, or noise; collude to stay within the spread of the "
        "others (little_is_enough); or send nothing and take the model (free_rider).",
        flag="attack",
        choices=ATTACKS,
    )
    share: float = option(
        0.2, "Share of the training clients that attack; the seed chooses them.", flag="attackers", least=0.0, most=1.0
    )
    scale: float | None = option(
        None,
        "Factor of sign_flip (default 1) and model_replacement (default: {cohort.clients_per_round}); for "
        "little_is_enough the number of standard deviations from the mean (default: as many as the paper's majority "
        "needs).",
        flag="attack_scale",
        least=0.0,
    )
    noise: float | None = option(
        None,
        "Standard deviation of the update of gaussian (default 1) and free_rider (default 0).",
        flag="attack_noise",
        least=0.0,
    )
    omniscient: bool = option(
        False, "Attackers of little_is_enough know the updates of all clients, not only their own."
    )
    backdoor_target: str | None = option(None, "Target label of the backdoor; default: the first.")
    backdoor_share: float = option(0.5, "Share of an attacker's batch that has the trigger.", least=0.0, most=1.0)
    backdoor_text: str = option("cf mn bb", "Trigger in texts: replaces their first words.")
    backdoor_pixels: int = option(2, "Trigger in images: side of a bright square, in pixels.", least=1)

    @property
    def enabled(self) -> bool:
        """Whether there are attackers."""
        return self.name != "none"

    def per_round(self, clients_per_round: int) -> int:
        """Expected number of attackers in a cohort, rounded."""
        return int(self.share * clients_per_round + 0.5)


@dataclasses.dataclass(frozen=True)
class CanariesConfig(Section, name="canaries", prefix="canary_"):
    """Canaries."""

    number: int = option(
        0,
        "Number of canary clients with random text; each is included in training with probability 1/2, for "
        "programs.audit.",
        flag="canaries",
        least=0,
        most=10**6,
    )
    repetitions: tuple[int, ...] = option(
        (1, 4, 16), "Copies of its text that a canary client holds, in turn.", least=1
    )
    length: int = option(16, "Tokens of a canary.", least=2, most=2**20)
