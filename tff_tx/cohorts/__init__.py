"""Cohorts: client sampling, simulated devices, synchronous and buffered rounds, and their log."""

from tff_tx.cohorts.buffered import Timeline
from tff_tx.cohorts.devices import AVAILABILITIES, Devices
from tff_tx.cohorts.log import LOG, CohortLog
from tff_tx.cohorts.sampling import SAMPLERS, Cohort, Sampler, build_sampler

__all__ = [
    "AVAILABILITIES",
    "LOG",
    "SAMPLERS",
    "Cohort",
    "CohortLog",
    "Devices",
    "Sampler",
    "Timeline",
    "build_sampler",
]
