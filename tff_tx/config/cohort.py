"""Which clients a round asks, and the devices that they are simulated to be."""

from __future__ import annotations

import dataclasses
import math

from tff_tx.config.option import NON_NEGATIVE, POSITIVE, Section, option

SAMPLERS = ("uniform", "poisson", "by_size", "min_separation", "fixed")
AVAILABILITIES = ("always", "diurnal")


@dataclasses.dataclass(frozen=True)
class CohortConfig(Section, name="cohort"):
    """Client sampling."""

    clients_per_round: int = option(5, "Cohort size.", least=1, stated=True)
    sampling: str = option(
        "uniform",
        "Client sampling: a fixed number of clients; each client independently with the same probability (poisson); in "
        "proportion to their examples; with a minimum separation between a client's rounds; or fixed: replayed from "
        "{cohort.cohorts}.",
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
    over_selection: float = option(
        1.0, "Samples this many times {cohort.clients_per_round}; the first to report count.", least=1.0, below=math.inf
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
    max_staleness: int = option(10, "FedBuff: older updates are dropped; this many models are stored.", least=0)

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
        None, "Simulated seconds a client has to report; default: no deadline.", **POSITIVE
    )
    seconds_per_example: float = option(
        0.0, "Simulated training time of the median device, in seconds per example.", **NON_NEGATIVE
    )
    speed_spread: float = option(
        0.0, "Standard deviation of the logarithm of device speeds.", flag="device_speed_spread", least=0.0, most=10.0
    )
    bytes_per_second: float | None = option(
        None,
        "Simulated bandwidth of a device; default: transfers take no time.",
        flag="device_bytes_per_second",
        **POSITIVE,
    )
    round_overhead_seconds: float = option(
        0.0, "Simulated seconds of a round besides its clients' work.", **NON_NEGATIVE
    )
    availability: str = option(
        "always", "When devices can be sampled: always, or mostly at night.", choices=AVAILABILITIES
    )

    @property
    def takes_time(self) -> bool:
        """Whether clients' work takes simulated time."""
        return self.seconds_per_example > 0 or self.bytes_per_second is not None
