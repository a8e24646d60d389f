"""The flags of FedBuff: what they build, and what they refuse."""

import pandas as pd
import pytest
from absl import flags

from programs import async_flags, cohort_flags
from tests.processes import run
from tff_tx.core.errors import UserError

IDS = [f"client{i}" for i in range(40)]
SIZES = {c: i for i, c in enumerate(IDS)}
ON = ("--buffer_size=4", "--seconds_per_example=0.1")


def check():
    cohort_flags.check()
    async_flags.check()


def test_it_is_off_by_default(parse):
    parse()
    check()
    assert not async_flags.enabled()
    assert async_flags.kept_bytes(100) == 0
    assert async_flags.sampler(IDS, SIZES, 7)(1) == cohort_flags.sampler(IDS, SIZES, 7)(1)


@pytest.mark.parametrize(("line", "concurrency"), [((), 5), (("--concurrency=12",), 12)])
def test_flags_reach_the_timeline(parse, line, concurrency):
    parse(*ON, *line, "--max_staleness=2")
    check()
    assert async_flags.enabled()
    assert async_flags.kept_bytes(100) == 200
    sample = async_flags.sampler(IDS, SIZES, 7)
    assert len(sample(1)) == concurrency + 3
    buffer = async_flags.timeline(sample, SIZES, 0, 7).buffer(3)
    assert len(buffer.arrivals) == 4
    assert async_flags.timeline(sample, SIZES, 0, 8).buffer(3) == buffer


def test_by_size_starts_those_with_examples(parse):
    parse(*ON, "--sampling=by_size", "--clients_per_round=39")
    check()
    assert set(async_flags.sampler(IDS, SIZES, 1)(1)) == set(IDS[1:])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--concurrency=8"], "--concurrency=8 means nothing without --buffer_size"),
        (["--staleness_exponent=1"], "--staleness_exponent=1.0 means nothing without --buffer_size"),
        (["--max_staleness=3"], "--max_staleness=3 means nothing without --buffer_size"),
        (["--buffer_size=4"], "--buffer_size=4 is about clients that take different times, and they take none: give"),
        ([*ON, "--engine=tff_native"], "--buffer_size=4 needs --engine=local, and --engine is tff_native"),
        ([*ON, "--algorithm=mime_lite"], "--buffer_size=4 means nothing to --algorithm=mime_lite"),
        ([*ON, "--sampling=poisson"], "--buffer_size=4 means nothing to --sampling=poisson"),
        ([*ON, "--sampling=fixed", "--cohorts=x"], "--buffer_size=4 means nothing to --sampling=fixed"),
        ([*ON, "--over_selection=1.3"], "--over_selection=1.3 means nothing to --buffer_size=4"),
        ([*ON, "--report_deadline=60"], "--report_deadline=60.0 means nothing to --buffer_size=4.* --max_staleness"),
        ([*ON, "--round_overhead_seconds=1"], "--round_overhead_seconds=1.0 means nothing to --buffer_size=4"),
        ([*ON, "--max_round_retries=1"], "--max_round_retries=1 means nothing to --buffer_size=4"),
        ([*ON, "--min_clients=5"], "--min_clients=5 is more than --buffer_size=4: lower it, or buffer more"),
    ],
)
def test_what_means_nothing_is_refused(parse, line, sentence):
    parse(*line)
    with pytest.raises(UserError, match=sentence):
        check()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--concurrency=41"], "--concurrency=41 is more than the 40 training clients"),
        (["--clients_per_round=41"], "--clients_per_round=41 is more than the 40 training clients"),
        (["--buffer_size=41"], "--buffer_size=41 is more than the 40 training clients"),
        (["--sampling=by_size", "--buffer_size=40"], "--buffer_size=40 is more than the 39 training clients"),
    ],
)
def test_more_clients_than_there_are_is_refused(parse, line, sentence):
    parse(*ON, *line)
    with pytest.raises(UserError, match=sentence):
        async_flags.sampler(IDS, SIZES, 1)


@pytest.mark.parametrize(
    "line", ["--buffer_size=0", "--concurrency=0", "--staleness_exponent=-1", "--max_staleness=-1"]
)
def test_values_of_no_flag_are_refused_by_the_parser(parse, line):
    with pytest.raises(flags.Error, match=line[2:].split("=")[0]):
        parse(line)


def test_a_run_says_how_stale_its_updates_were(tmp_path, cache_dir):
    model = '{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
    run(
        "train",
        *("--dataset=digits", "--num_clients=6", "--local_steps=2", f"--model_config={model}", "--rounds=4", *ON[1:]),
        *("--clients_per_round=4", "--buffer_size=1", "--device_speed_spread=1.0", "--run_dir=run"),
        *("--rounds_per_checkpoint=2", "--rounds_per_evaluation=0", f"--cache_dir={cache_dir}"),
        cwd=tmp_path,
    )
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["clients/finished"].tolist() == [1] * 4
    assert table["staleness/max"].max() >= 1
    assert table["simulated/total_seconds"].is_monotonic_increasing
