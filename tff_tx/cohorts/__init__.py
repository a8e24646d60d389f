"""Cohorts: client sampling, simulated devices, synchronous and buffered rounds, their log, and what clients retain."""

from tff_tx.cohorts.adaptive import Known
from tff_tx.cohorts.buffered import AsyncSchedule
from tff_tx.cohorts.client_store import ClientStore
from tff_tx.cohorts.devices import Cohort, Devices
from tff_tx.cohorts.feedback import FEEDBACK, Feedback, LossObserver
from tff_tx.cohorts.log import LOG, CohortLog
from tff_tx.cohorts.samplers import ADAPTIVE, SAMPLERS, build_sampler
from tff_tx.cohorts.sampling import Sampler, uniform

__all__ = [
    *("AsyncSchedule", "LOG", "SAMPLERS", "ClientStore", "Cohort", "CohortLog", "Devices", "Sampler", "build_sampler"),
    *("ADAPTIVE", "FEEDBACK", "Feedback", "Known", "LossObserver", "uniform"),
]
