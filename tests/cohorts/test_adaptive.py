"""Samplers that go by clients' losses: whom they prefer, whom they never forget, and what they remember."""

import collections

import pytest

from tff_tx.cohorts import ADAPTIVE, Feedback, Known, build_sampler
from tff_tx.config import RunConfig, check, resolve
from tff_tx.config.rules import RULES
from tff_tx.core.errors import UserError

CLIENTS = [f"c{i:02}" for i in range(20)]
SIZES = dict.fromkeys(CLIENTS, 10)
HARD = frozenset(CLIENTS[:6])


def run(name, tmp_path, rounds, seconds=None, floor=0.25, cohort=4):
    """Cohorts of so many rounds, in which hard clients report a loss of 2, others of 0.1."""
    feedback, cohorts = Feedback(str(tmp_path)), []
    sample = build_sampler(name, CLIENTS, cohort, 1, known=Known(feedback, SIZES, seconds or {}, floor))
    for round_num in range(1, rounds + 1):
        cohorts.append(sample(round_num))
        feedback.append(round_num, {c: 2.0 if c in HARD else 0.1 for c in cohorts[-1]})
    return cohorts, sample


@pytest.mark.parametrize("name", ADAPTIVE)
def test_hard_clients_are_preferred_and_nobody_is_forgotten(name, tmp_path):
    cohorts, sample = run(name, tmp_path, 80)
    assert all(len(set(cohort)) == 4 for cohort in cohorts)
    counts = collections.Counter(c for cohort in cohorts[20:] for c in cohort)
    hard, easy = (sum(counts[c] for c in group) / len(group) for group in (HARD, set(CLIENTS) - HARD))
    assert hard > 1.5 * easy
    # A quarter of a cohort of 4 is one client a round: each of 20 has its turn within 20 rounds.
    for first in range(0, 60, 20):
        assert set(CLIENTS) == {c for cohort in cohorts[first : first + 20] for c in cohort}
    assert sample(80) == cohorts[-1]
    assert build_sampler(name, CLIENTS, 4, 1, known=Known(Feedback(str(tmp_path)), SIZES, {}, 0.25))(80) == cohorts[-1]


def test_oort_prefers_fast_devices_among_those_that_are_as_hard(tmp_path):
    slow = {c: 10.0 if int(c[1:]) % 2 else 1.0 for c in CLIENTS}
    cohorts, _ = run("oort", tmp_path, 80, slow)
    counts = collections.Counter(c for cohort in cohorts[20:] for c in cohort if c in HARD)
    assert sum(counts[c] for c in HARD if slow[c] == 1.0) > 2 * sum(counts[c] for c in HARD if slow[c] == 10.0)


def test_feedback_survives_kills_and_says_what_is_missing(tmp_path):
    feedback = Feedback(str(tmp_path))
    feedback.append(1, {"a": 0.5})
    with open(tmp_path / "feedback.jsonl", "ab") as file:
        file.write(b'{"round_num": 2, "lo')
    resumed = Feedback(str(tmp_path))
    assert resumed.rounds(2) == [{"a": 0.5}]
    resumed.append(2, {"b": 1.0})
    assert Feedback(str(tmp_path)).rounds(3) == resumed.rounds(3) == [{"a": 0.5}, {"b": 1.0}]
    with pytest.raises(UserError, match="lacks round 3"):
        resumed.rounds(4)


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0}, "do not depend on clients' data"),
        ({"aggregation.secure": "masks"}, "a secure sum shows none"),
        ({"local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0}, "are not hidden"),
        ({"engine.name": "tff_native"}, "the server sees sums"),
        ({"cohort.buffer_size": 2, "devices.seconds_per_example": 1.0}, "draw whole rounds"),
    ],
)
def test_what_losses_would_give_away_is_rejected(name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        check(resolve(RunConfig.of({"cohort.sampling": name, **settings})), RULES)
