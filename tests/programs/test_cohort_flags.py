"""The flags of cohorts and devices: what they build, and what they refuse."""

import json

import pytest
from absl import flags

from programs import cohort_flags, training_flags  # noqa: F401
from tff_tx.cohorts.devices import Devices
from tff_tx.core.errors import UserError

IDS = [f"client{i}" for i in range(40)]
SIZES = {c: i for i, c in enumerate(IDS)}
WORKING = "--seconds_per_example=0.1"


def record(tmp_path, rounds):
    path = tmp_path / "cohorts.jsonl"
    path.write_text("".join(json.dumps({"round_num": r, "clients": IDS[r : r + 9]}) + "\n" for r in rounds))
    return f"--cohorts={path}"


def test_defaults_ask_uniformly_and_simulate_nothing(parse):
    parse()
    cohort_flags.check()
    assert cohort_flags.devices(7) == Devices(seed=7)
    assert cohort_flags.asked() == 5
    sample = cohort_flags.sampler(IDS, {}, 7)
    assert len(sample(1)) == 5
    assert sample(1) == cohort_flags.sampler(IDS, {}, 7)(1) != cohort_flags.sampler(IDS, {}, 8)(1)
    assert (flags.FLAGS.min_clients, flags.FLAGS.max_round_retries) == (1, 3)


def test_every_device_flag_reaches_the_devices(parse):
    parse(
        *("--over_selection=1.3", "--dropout_rate=0.1", "--report_deadline=60", WORKING),
        *("--device_speed_spread=0.5", "--device_bytes_per_second=1e6", "--round_overhead_seconds=2"),
        "--availability=diurnal",
    )
    cohort_flags.check()
    assert cohort_flags.devices(3) == Devices(0.1, 1.3, 60.0, 0.1, 0.5, 2.0, 1e6, "diurnal", 3)


def test_over_selection_asks_more(parse):
    parse("--clients_per_round=10", "--over_selection=1.3", "--dropout_rate=0.1")
    cohort_flags.check()
    assert cohort_flags.asked() == 13
    assert len(cohort_flags.sampler(IDS, {}, 1)(1)) == 13


@pytest.mark.parametrize(("clients", "drawn"), [(4, 20), (20, 40)])
def test_of_those_asleep_at_night_enough_are_drawn(parse, clients, drawn):
    parse(f"--clients_per_round={clients}", "--availability=diurnal", WORKING)
    cohort_flags.check()
    assert cohort_flags.asked() == clients
    assert len(cohort_flags.sampler(IDS, {}, 1)(1)) == drawn


def test_poisson_counts_all_it_draws(parse):
    parse("--sampling=poisson", "--availability=diurnal", WORKING)
    cohort_flags.check()
    assert cohort_flags.asked() is None
    sample = cohort_flags.sampler(IDS, {}, 1)
    assert 4 < sum(len(sample(r)) for r in range(1, 201)) / 200 < 6


def test_by_size_draws_from_those_with_examples(parse):
    parse("--sampling=by_size", "--clients_per_round=39")
    cohort_flags.check()
    assert set(cohort_flags.sampler(IDS, SIZES, 1)(1)) == set(IDS[1:])


def test_fixed_replays_whatever_the_size(parse, tmp_path):
    parse("--sampling=fixed", "--rounds=3", "--min_clients=8", record(tmp_path, [1, 2, 3]))
    cohort_flags.check()
    assert cohort_flags.asked() is None
    assert cohort_flags.sampler(IDS, {}, 1)(2) == IDS[2:11]


@pytest.mark.parametrize(("line", "separation"), [((), 8), (("--min_separation=3",), 3)])
def test_min_separation_is_as_told_or_as_long_as_can_be(parse, line, separation):
    parse("--sampling=min_separation", *line)
    cohort_flags.check()
    assert cohort_flags.min_separation(len(IDS)) == separation
    sample = cohort_flags.sampler(IDS, {}, 1)
    rounds = [r for r in range(1, 200) if IDS[0] in sample(r)]
    assert min(b - a for a, b in zip(rounds, rounds[1:])) % separation == 0


def test_without_it_none_is_kept(parse):
    parse()
    assert cohort_flags.min_separation(len(IDS)) == 1


def test_a_record_shorter_than_the_run_is_refused(parse, tmp_path):
    parse("--sampling=fixed", "--rounds=3", record(tmp_path, [1, 2]))
    with pytest.raises(UserError, match="no cohort for round 3"):
        cohort_flags.sampler(IDS, {}, 1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            ["--clients_per_round=41"],
            "--clients_per_round=41 is more than the 40 training clients with examples: lower it, or deal",
        ),
        (
            ["--clients_per_round=39", "--over_selection=1.3"],
            "--clients_per_round=39 times --over_selection=1.3 is 51 clients a round, more than the 40",
        ),
        (["--clients_per_round=40", "--sampling=by_size"], "more than the 39 training clients with examples: lower"),
        (["--clients_per_round=41", "--sampling=poisson"], "--clients_per_round=41 is more than the 40"),
        (["--sampling=min_separation", "--min_separation=9"], "--min_separation=9 leaves 4 of the 40"),
        (["--clients_per_round=41", "--availability=diurnal"], "--clients_per_round=41 is more than the 40 training"),
    ],
)
def test_more_clients_than_there_are_is_refused(parse, line, sentence):
    parse(*line)
    with pytest.raises(UserError, match=sentence):
        cohort_flags.sampler(IDS, SIZES, 1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--cohorts=x"], "--cohorts=x is read with --sampling=fixed only, and --sampling is uniform: drop one"),
        (["--cohorts=x", "--sampling=poisson"], "--cohorts=x is read with --sampling=fixed only"),
        (["--sampling=fixed"], "--sampling=fixed needs --cohorts"),
        (["--sampling=fixed", "--cohorts=x", "--max_round_retries=2"], "--max_round_retries=2 means nothing to"),
        (
            ["--sampling=fixed", "--cohorts=x", "--availability=diurnal", WORKING],
            "--availability=diurnal means nothing to --sampling=fixed",
        ),
        (["--min_separation=3"], "--min_separation=3 is kept with --sampling=min_separation only"),
        (["--min_clients=6"], "--min_clients=6 is more than --clients_per_round=5: lower it"),
        (
            ["--sampling=poisson", "--over_selection=1.3", "--dropout_rate=0.1"],
            "--over_selection=1.3 means nothing to --sampling=poisson",
        ),
        (["--device_speed_spread=0.5"], "--device_speed_spread=0.5 spreads --seconds_per_example, which is 0"),
        (
            ["--device_speed_spread=0.5", "--device_bytes_per_second=10"],
            "--device_speed_spread=0.5 spreads --seconds_per_example, which is 0",
        ),
        (["--report_deadline=60"], "--report_deadline=60.0 is never missed"),
        (["--report_deadline=60", "--round_overhead_seconds=5"], "--report_deadline=60.0 is never missed"),
        (["--availability=diurnal"], "--availability=diurnal follows the time of day, and none passes"),
        (["--over_selection=1.3"], "--over_selection=1.3 makes up for clients that are late or vanish"),
        (["--over_selection=0.5"], "--over_selection=0.5 would ask fewer clients"),
        (["--dropout_rate=1"], r"--dropout_rate is a probability in \[0, 1\) and is 1.0"),
        (["--seconds_per_example=-1"], "--seconds_per_example must be 0 or more and is -1.0"),
        (["--device_bytes_per_second=0"], "--device_bytes_per_second must be above 0 and is 0.0"),
    ],
)
def test_what_means_nothing_is_refused(parse, line, sentence):
    parse(*line)
    with pytest.raises(UserError, match=sentence):
        cohort_flags.check()


@pytest.mark.parametrize(
    "line",
    [
        ["--min_clients=5"],
        ["--report_deadline=60", WORKING],
        ["--report_deadline=60", "--device_bytes_per_second=10"],
        ["--availability=diurnal", "--round_overhead_seconds=60"],
        ["--over_selection=1.3", "--device_bytes_per_second=10"],
        ["--sampling=fixed", "--cohorts=x", "--over_selection=1.3", "--dropout_rate=0.1"],
    ],
)
def test_what_means_something_is_not(parse, line):
    parse(*line)
    assert cohort_flags.check() is None  # where it refuses, it raises


@pytest.mark.parametrize(
    "line", ["--sampling=all", "--min_clients=0", "--max_round_retries=-1", "--availability=never"]
)
def test_values_of_no_flag_are_refused_by_the_parser(parse, line):
    with pytest.raises(flags.Error, match=line[2:].split("=")[0]):
        parse(line)
