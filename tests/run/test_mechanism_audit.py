"""Audits of mechanisms by themselves: a sound one is not refuted, and the report says what could have been."""

import json

import pytest

from tff_tx.config import RunConfig
from tff_tx.config.tools import AuditConfig
from tff_tx.core.errors import UserError
from tff_tx.federation.secure_sums import noise
from tff_tx.run import mechanism_audit

LOCAL = {"local_privacy.clip_norm": 0.5, "local_privacy.noise_multiplier": 4}
GAUSSIAN = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 2, "privacy.noise_seed": 1}
EXAMPLES = {"example_privacy.clip_norm": 0.5, "example_privacy.noise_multiplier": 2}

SHARES = {"privacy.mechanism": "skellam", "aggregation.secure": "arithmetic"}
CORRELATED = {"cohort.sampling": "min_separation", "cohort.min_separation": 4, "run.rounds": 8}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mechanism",
    [
        LOCAL,
        GAUSSIAN,
        {**GAUSSIAN, "privacy.mechanism": "adaptive"},
        EXAMPLES,
        {**GAUSSIAN, **CORRELATED, "privacy.mechanism": "tree"},
        {**GAUSSIAN, **CORRELATED, "privacy.mechanism": "banded"},
        {**GAUSSIAN, "privacy.metrics": "private"},
        {**GAUSSIAN, **SHARES},
    ],
    ids=["local", "gaussian", "adaptive", "examples", "tree", "banded", "private metrics", "skellam"],
)
def test_a_mechanism_is_audited_without_a_run(mechanism, tmp_path):
    settings = AuditConfig(canaries=300, output_dir=str(tmp_path / "found"))
    report = mechanism_audit.audit_mechanism(RunConfig.of(mechanism), settings)
    assert 0 < report.bound.epsilon < report.accounted
    if mechanism in (LOCAL, GAUSSIAN, EXAMPLES):  # each once, with a noise multiplier of 2
        assert report.accounted == pytest.approx(1.998, abs=0.2)
    assert not report.refuted
    assert "The mechanism is not refuted" in str(report)
    assert abs(report.measurement.stddev - 1) < 0.02
    assert 0.99 < report.measurement.sensitivity < 1.001
    stored = json.loads((tmp_path / "found" / "mechanism.json").read_text())
    assert stored["accounted"] == report.accounted
    assert stored["refuted"] is False
    assert stored["lower_bound"]["epsilon"] == report.bound.epsilon


@pytest.mark.slow
def test_shares_of_a_tenth_less_noise_are_refuted(monkeypatch):
    original = noise.Noise.draw

    def less(self, length, stream):
        return original(noise.Noise(self.kind, 0.81 * self.variance), length, stream)

    monkeypatch.setattr(noise.Noise, "draw", less)
    config = RunConfig.of({**GAUSSIAN, **SHARES, "privacy.mechanism": "discrete_gaussian"})
    report = mechanism_audit.audit_mechanism(config, AuditConfig(canaries=30))
    assert report.refuted
    assert report.measurement.faults == ("the noise is too small",)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "set exactly one, with its noise"),
        ({**GAUSSIAN, "local_privacy.clip_norm": 1}, "set exactly one, with its noise"),
        ({"local_privacy.clip_norm": 1}, "local_privacy.clip_norm=1.0 needs local_privacy.noise_multiplier"),
        ({"privacy.mechanism": "gaussian"}, "set exactly one, the noise or the epsilon"),
    ],
)
def test_one_mechanism_with_its_noise_is_audited(values, sentence):
    with pytest.raises(UserError, match=sentence):
        mechanism_audit.audit_mechanism(RunConfig.of(values), AuditConfig())


def test_canaries_that_could_not_refute_say_so():
    """A hundred canaries show an epsilon of 2 or 3 at most."""
    weak = {"local_privacy.clip_norm": 0.5, "local_privacy.noise_multiplier": 1}
    report = mechanism_audit.audit_mechanism(RunConfig.of(weak), AuditConfig(canaries=100))
    assert report.bound.epsilon <= report.reachable < report.accounted
    assert "so few canaries could not have refuted it" in str(report)
