"""Settings of sampling, devices and FedBuff: which combinations are rejected, and which are not."""

import math
import re

import pytest

from tff_tx.cohorts import SAMPLERS
from tff_tx.config import RunConfig, check, resolve
from tff_tx.config import clients as cohort_config
from tff_tx.core.errors import UserError

DIURNAL = {"devices.availability": "diurnal"}
WORKING = {"devices.seconds_per_example": 0.1}
BUFFERED = {"cohort.buffer_size": 4, **WORKING}
TASK = {"task.kind": "causal_lm", "model.architecture": "gpt2", "model.tokenizer": "bytes"}
SILOS = {"data.dataset": "file", "data.files": ("{silo}",), "data.silos": ("a", "b")}
REAL = {"cohort.buffer_size": 4, "engine.name": "federation", **SILOS, **TASK}
REPLAY = {"cohort.sampling": "fixed", "cohort.cohorts": "x"}


def checked(values):
    return check(resolve(RunConfig.of(values)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cohort.cohorts": "x"}, "cohort.cohorts=x has no effect with cohort.sampling=uniform: remove it, or set"),
        ({"cohort.cohorts": "x", "cohort.sampling": "poisson"}, "cohort.cohorts=x has no effect with"),
        ({"cohort.sampling": "fixed"}, "cohort.sampling=fixed needs cohort.cohorts"),
        (
            {**REPLAY, "cohort.max_round_retries": 2},
            "cohort.sampling=fixed cannot be combined with cohort.max_round_retries=2",
        ),
        (
            {**REPLAY, **DIURNAL, **WORKING},
            "cohort.sampling=fixed cannot be combined with devices.availability=diurnal",
        ),
        ({"cohort.min_separation": 3}, "cohort.min_separation=3 has no effect with cohort.sampling=uniform"),
        ({"cohort.min_clients": 6}, "cohort.min_clients=6 is more than cohort.clients_per_round=5: lower it"),
        (
            {"cohort.sampling": "poisson", "cohort.over_selection": 1.3, "devices.dropout_rate": 0.1},
            "cohort.sampling=poisson cannot be combined with cohort.over_selection=1.3",
        ),
        ({"devices.speed_spread": 0.5}, "devices.speed_spread=0.5 has no effect without devices.seconds_per_example"),
        (
            {"devices.speed_spread": 0.5, "devices.bytes_per_second": 10},
            "devices.speed_spread=0.5 has no effect without devices.seconds_per_example",
        ),
        ({"devices.report_deadline": 60}, "devices.report_deadline=60.0 has no effect while clients take no time"),
        (
            {"devices.report_deadline": 60, "devices.round_overhead_seconds": 5},
            "devices.report_deadline=60.0 has no effect while clients take no time",
        ),
        (DIURNAL, "devices.availability=diurnal has no effect while clients take no time"),
        ({"cohort.over_selection": 1.3}, "cohort.over_selection=1.3 has no effect while no client is late or vanishes"),
        ({"cohort.concurrency": 8}, "cohort.concurrency=8 has no effect without cohort.buffer_size"),
        ({"cohort.staleness_exponent": 1}, "cohort.staleness_exponent=1.0 has no effect without cohort.buffer_size"),
        ({"cohort.max_staleness": 3}, "cohort.max_staleness=3 has no effect without cohort.buffer_size"),
        ({"cohort.buffer_size": 4}, "cohort.buffer_size=4 needs clients that take time: set"),
        (
            {**BUFFERED, "engine.name": "tff_native"},
            "cohort.buffer_size=4 cannot be combined with engine.name=tff_native",
        ),
        (
            {**BUFFERED, "algorithm.name": "mime_lite"},
            "cohort.buffer_size=4 cannot be combined with algorithm.name=mime_lite",
        ),
        (
            {**BUFFERED, "cohort.sampling": "poisson"},
            "cohort.buffer_size=4 cannot be combined with cohort.sampling=poisson",
        ),
        (
            {**BUFFERED, **REPLAY},
            "devices.seconds_per_example=0.1 has no effect with cohort.buffer_size=4 and cohort.sampling=fixed, whose",
        ),
        ({**REAL, **WORKING}, "participants are real, and report when they do; remove it"),
        (
            {**REAL, **REPLAY},
            "cohort.cohorts=x cannot be combined with cohort.buffer_size=4 and engine.name=f",
        ),
        ({**REAL, "run.participant_evaluation": True}, "participants are at work on updates whenever a round ends"),
        ({**REAL, "algorithm.name": "ditto"}, "what clients retain counts round by round"),
        ({**REAL, "aggregation.secure": "masks"}, "masks are bound to one broadcast model, and stale clients"),
        (
            {**REAL, "local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0},
            "a coordinator that resumes has clients train once more, which is not accounted for",
        ),
        (
            {**BUFFERED, "cohort.sampling": "min_separation"},
            "cohort.buffer_size=4 cannot be combined with cohort.sampling=min_separation",
        ),
        (
            {**BUFFERED, "cohort.over_selection": 1.3},
            "cohort.buffer_size=4 cannot be combined with cohort.over_selection=1.3",
        ),
        (
            {**BUFFERED, "devices.report_deadline": 60},
            "cohort.buffer_size=4 cannot be combined with devices.report_deadline=60.0: the server never waits; "
            "reports that are too old exceed cohort.max_staleness",
        ),
        (
            {**BUFFERED, "devices.round_overhead_seconds": 1},
            "cohort.buffer_size=4 cannot be combined with devices.round_overhead_seconds=1.0",
        ),
        (
            {**BUFFERED, "cohort.max_round_retries": 1},
            "cohort.buffer_size=4 cannot be combined with cohort.max_round_retries=1",
        ),
        ({**BUFFERED, "cohort.min_clients": 5}, "cohort.min_clients=5 is more than cohort.buffer_size=4: lower it"),
    ],
)
def test_settings_without_effect_or_sense_are_rejected(values, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        checked(values)


@pytest.mark.parametrize(
    "values",
    [
        {"cohort.min_clients": 5},
        {"devices.report_deadline": 60, **WORKING},
        {"devices.report_deadline": 60, "devices.bytes_per_second": 10},
        {**DIURNAL, "devices.round_overhead_seconds": 60},
        {"cohort.over_selection": 1.3, "devices.bytes_per_second": 10},
        {**REPLAY, "cohort.over_selection": 1.3, "devices.dropout_rate": 0.1},
        {**REPLAY, "cohort.min_clients": 8},
        {"cohort.sampling": "poisson", **DIURNAL, **WORKING},
        {**BUFFERED, "cohort.concurrency": 12, "cohort.max_staleness": 2},
        {**BUFFERED, "cohort.sampling": "by_size", "cohort.clients_per_round": 39},
        {**BUFFERED, "compression.upload": "top_k"},
        {"cohort.buffer_size": 4, **REPLAY},
        REAL,
    ],
)
def test_settings_with_an_effect_are_not(values):
    assert checked(values) is None


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("cohort.sampling", "all", "must be one of uniform, poisson"),
        ("cohort.min_clients", 0, "must be at least 1"),
        ("cohort.max_round_retries", -1, "must be at least 0"),
        ("cohort.over_selection", 0.9, "must be at least 1"),
        ("cohort.over_selection", math.inf, "must be at most 3e"),
        ("cohort.buffer_size", 0, "must be at least 1"),
        ("cohort.concurrency", 0, "must be at least 1"),
        ("cohort.staleness_exponent", -1, "must be at least 0"),
        ("cohort.max_staleness", -1, "must be at least 0"),
    ],
)
def test_values_out_of_range_are_rejected(path, value, sentence):
    with pytest.raises(UserError, match=f"^{path}=.*: {sentence}"):
        RunConfig.of({path: value})


def test_every_sampler_can_be_chosen():
    assert set(cohort_config.SAMPLERS) == set(SAMPLERS)
