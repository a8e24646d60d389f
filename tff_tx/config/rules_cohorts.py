"""What the choice of a round's clients forbids: samplers, devices that take time, and updates from a buffer."""

from __future__ import annotations

from tff_tx.config import laws
from tff_tx.config.clients import ADAPTIVE_SAMPLERS
from tff_tx.config.conditions import Conflict, Law, Relation, Requires, belong, section

_ADAPTIVE = f"cohort.sampling={'|'.join(ADAPTIVE_SAMPLERS)}"
_NO_TIME = (
    "has no effect while clients take no time: set {devices.seconds_per_example} or {devices.bytes_per_second}, or "
    "remove it."
)
_SIMULATED = section("devices", "seconds_per_example", "bytes_per_second", "dropout_rate")
_ARRIVALS = {
    "participants are real, and report when they do": ("cohort.cohorts", *_SIMULATED),
    "participants are at work on updates whenever a round ends": ("run.participant_evaluation",),
    "a coordinator that resumes has clients train once more, which is not accounted for": (
        laws.LOCAL_DP,
        laws.EXAMPLE_DP,
    ),
}
"""What cannot be where participants do not wait for each other, and why."""

COHORTS = [
    Requires("cohort.sampling=fixed", "cohort.cohorts", "it replays them"),
    *belong("cohort.sampling=fixed", "cohort.cohorts"),
    *belong("cohort.sampling=min_separation", "cohort.min_separation"),
    Relation(("cohort.min_clients", "cohort.clients_per_round", "cohort.buffer_size"), laws.enough_report),
    *belong(_ADAPTIVE, "cohort.fairness_floor"),
    *(
        Conflict(_ADAPTIVE, condition, because, "sample with uniform")
        for condition, because in (
            ("privacy.mechanism!=none", "its accounting assumes cohorts that do not depend on clients' data"),
            (laws.LOCAL_DP, "the losses that it goes by are not hidden"),
            (laws.EXAMPLE_DP, "the losses that it goes by are not hidden"),
            (laws.SECURE, "it goes by the loss of each client, and a secure sum shows none"),
            ("engine.name=tff_native|federation", "the server sees sums, not the loss of each client"),
            ("ensemble.enabled=True", "groups have losses of models of their own"),
        )
    ),
    Conflict("cohort.sampling=poisson", "cohort.over_selection", "every sampled client counts"),
    Conflict("cohort.sampling=fixed", "cohort.max_round_retries", "a round has one recorded cohort"),
    Conflict("cohort.sampling=fixed", "devices.availability", "the recorded clients were available"),
    *belong("devices.seconds_per_example", "devices.speed_spread"),
    Law(
        lambda c: c.is_set("devices.report_deadline") and not c.devices.takes_time,
        f"{{devices.report_deadline=}} {_NO_TIME}",
    ),
    Law(
        lambda c: c.is_set("devices.availability") and not (c.devices.takes_time or c.devices.round_overhead_seconds),
        f"{{devices.availability=}} {_NO_TIME}",
    ),
    Law(
        lambda c: c.is_set("cohort.over_selection") and not (c.devices.takes_time or c.devices.dropout_rate),
        "{cohort.over_selection=} has no effect while no client is late or vanishes: set {devices.dropout_rate} or "
        "{devices.seconds_per_example}, or remove it.",
    ),
]

FED_BUFF = [
    *belong(laws.BUFFERED, *section("cohort", "concurrency", "staleness_exponent", "max_staleness")),
    Conflict(laws.BUFFERED, "engine.name=tff_native", "TFF's runtime starts all clients from one model"),
    Conflict(
        laws.BUFFERED,
        f"cohort.sampling=poisson|min_separation|{'|'.join(ADAPTIVE_SAMPLERS)}",
        "these draw whole rounds, and FedBuff starts clients one by one",
        "sample with uniform or by_size",
    ),
    *(
        Conflict(laws.BUFFERED, path, reason, "remove it")
        for path, reason in (
            ("cohort.over_selection", "the server never waits for a slow client"),
            (
                "devices.report_deadline",
                "the server never waits; reports that are too old exceed {cohort.max_staleness}",
            ),
            ("devices.round_overhead_seconds", "the server updates while clients work"),
            ("cohort.max_round_retries", "there are no other reports to retry a round with"),
        )
    ),
    Law(
        lambda c: (
            c.cohort.is_buffered
            and not (c.devices.takes_time or c.cohort.sampling == "fixed" or c.engine.name == "federation")
        ),
        "{cohort.buffer_size=} needs clients that take time: set {devices.seconds_per_example} (and "
        "{devices.speed_spread}) or {devices.bytes_per_second}.",
    ),
    *(
        Law(
            lambda c, path=path: c.is_set(path) and c.cohort.is_buffered and c.cohort.sampling == "fixed",
            f"{{{path}=}} has no effect with {{cohort.buffer_size=}} and {{cohort.sampling=}}, whose reports are "
            "those of the record: remove it.",
        )
        for path in ("cohort.concurrency", *_SIMULATED)
    ),
    *(
        Law(
            lambda c, path=path: c.is_set(path) and laws.has_arrivals(c),
            f"{{{path}=}} cannot be combined with {{cohort.buffer_size=}} and {{engine.name=}}: {because}; remove it.",
        )
        for because, paths in _ARRIVALS.items()
        for path in paths
    ),
    Law(
        lambda c: c.cohort.is_buffered and c.compression.upload != "none" and c.engine.name != "local",
        "{compression.upload=} and {cohort.buffer_size=} need {engine.name}=local (found {engine.name:value}): stale "
        "updates are scaled after they are decoded, and workers of a cluster add codes up; remove one of them.",
    ),
]
