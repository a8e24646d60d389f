"""The flags of user-level privacy: what they refuse, which noise they find, and what a private run leaves."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from programs import cohort_flags, dp_flags, private_run
from tests.aggregators import echo
from tests.processes import run
from tff_tx import algorithms, privacy
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine

GAUSSIAN = ("--dp_mechanism=gaussian", "--noise_multiplier=1", "--sampling=poisson")
TREE = ("--dp_mechanism=tree", "--noise_multiplier=1", "--sampling=min_separation")
WORKING = "--seconds_per_example=0.1"


@pytest.fixture
def plan(parse):
    """The plan of a command line and of nothing before it, for 100 clients and a model of so many weights."""
    unset = flagsaver.save_flag_values()

    def made(*line, clients=100, dimension=1000):
        nonlocal unset
        flagsaver.restore_flag_values(unset)
        unset = flagsaver.save_flag_values()  # the flags now live in what was saved before
        parse(*line)
        cohort_flags.check()
        dp_flags.check()
        return private_run.plan(clients, dimension)

    return made


def test_runs_are_not_private_by_default(plan):
    assert plan() is None
    assert not dp_flags.enabled()
    assert dp_flags.kept_bytes(100) == 0
    assert flags.FLAGS.weighted


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--dp_clip_norm=1"], "--dp_clip_norm=1.0 means nothing without --dp_mechanism"),
        (["--target_epsilon=1"], "--target_epsilon=1.0 means nothing without --dp_mechanism"),
        (["--dp_metrics=private"], "--dp_metrics=private means nothing without --dp_mechanism"),
        (["--dp_mechanism=gaussian"], "set exactly one"),
        ([*GAUSSIAN, "--target_epsilon=1"], "set exactly one"),
        ([*GAUSSIAN, "--dp_clip_norm=0"], "--dp_clip_norm=0.0 must be above 0: correct it"),
        ([*GAUSSIAN, "--dp_clip_norm=inf"], "--dp_clip_norm=inf must be above 0"),
        (
            [*GAUSSIAN, "--dp_metrics=private", "--dp_metrics_share=1"],
            "--dp_metrics_share=1.0 must be above 0 and below 1",
        ),
        ([*GAUSSIAN, "--dp_clip_quantile=0.4"], "--dp_clip_quantile=0.4 belongs to --dp_mechanism=adaptive"),
        ([*GAUSSIAN, "--dp_metrics_share=0.1"], "--dp_metrics_share=0.1 belongs to --dp_metrics=private"),
        ([*GAUSSIAN, "--restart_rounds=8"], "--restart_rounds=8 belongs to --dp_mechanism=tree"),
        ([*TREE, "--bands=8"], "--bands=8 belongs to --dp_mechanism=banded"),
        ([*GAUSSIAN, "--weighted"], "--weighted lets a client count by its number of examples"),
        ([*GAUSSIAN, "--algorithm=mime_lite"], "does not hide the gradient that clients of --algorithm=mime_lite send"),
        ([*GAUSSIAN, "--algorithm=fed_sgd", "--dp_metrics=withheld"], "--dp_metrics=withheld is not for"),
        (
            ["--dp_mechanism=gaussian", "--noise_multiplier=1", "--buffer_size=4", WORKING],
            "--buffer_size=4 lets a client",
        ),
        (
            ["--dp_mechanism=gaussian", "--noise_multiplier=1", "--over_selection=1.3", "--dropout_rate=0.1"],
            "--over_selection=1.3 lets fast devices displace slow ones",
        ),
        (
            ["--dp_mechanism=gaussian", "--noise_multiplier=1", "--availability=diurnal", WORKING],
            "--availability=diurnal draws cohorts from those awake",
        ),
        ([*GAUSSIAN, "--min_clients=2"], "--min_clients=2 would let the number of clients decide"),
        ([*GAUSSIAN, "--max_round_retries=2"], "--max_round_retries=2 would let the number of clients decide"),
        (
            [*TREE[:2], "--sampling=poisson"],
            "--sampling=poisson keeps no distance: sample with --sampling=min_separation",
        ),
        (["--dp_mechanism=banded", "--noise_multiplier=1"], "--sampling=uniform keeps no distance"),
        ([*GAUSSIAN, "--compression=top_k"], "--compression=top_k with error feedback sends what was left out"),
        (
            ["--dp_mechanism=adaptive", *GAUSSIAN[1:], "--compression=eden1"],
            "--compression=eden1 is decoded and clipped by the server as it adds up, which needs a clip that stays",
        ),
    ],
)
def test_what_means_nothing_or_voids_the_guarantee_is_refused(parse, line, sentence):
    parse(*line)
    with pytest.raises(UserError, match=re.escape(sentence)):
        dp_flags.check()


@pytest.mark.parametrize(
    "line",
    [
        GAUSSIAN,
        TREE,
        (*GAUSSIAN, "--availability=diurnal", WORKING),
        (*GAUSSIAN, "--dropout_rate=0.2", "--report_deadline=60", WORKING),
        (*GAUSSIAN, "--algorithm=fed_sgd"),
        (*GAUSSIAN, "--noweighted"),
        (*TREE, "--compression=eden1"),
        (*GAUSSIAN, "--compression=top_k", "--noerror_feedback"),
    ],
)
def test_what_keeps_it_is_not(parse, line):
    parse(*line)
    dp_flags.check()
    assert not flags.FLAGS.weighted


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([*GAUSSIAN, "--population=99"], "--population=99 is fewer than the 100 training clients"),
        ([*GAUSSIAN, "--target_delta=0.5"], "--target_delta=0.5 is more than one over the 100 clients"),
        ([*GAUSSIAN, "--amplification=without_replacement"], "does not hold for --sampling=poisson"),
        ([*GAUSSIAN, "--stop_at_epsilon=0.001"], "--stop_at_epsilon=0.001 is exceeded by the first round"),
        (
            [*TREE[1:], "--dp_mechanism=banded", "--min_separation=5", "--bands=6"],
            "--bands=6 is more than the 5 rounds",
        ),
        (
            ["--dp_mechanism=adaptive", *GAUSSIAN[1:], "--dp_clip_count_stddev=0.5"],
            "--dp_clip_count_stddev=0.5 would spend more than the whole budget",
        ),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(plan, line, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        plan(*line)


# Which noise


@pytest.mark.parametrize(
    ("sampling", "mechanism"),
    [
        ("poisson", privacy.Gaussian(1.0, "poisson", 5, 100)),
        ("uniform", privacy.Gaussian(1.0, "without_replacement", 5, 100)),
        ("by_size", privacy.Gaussian(1.0, "none")),
        ("min_separation", privacy.Gaussian(1.0, "none", participation=privacy.Participation(20))),
    ],
)
def test_the_sampler_decides_the_accounting(plan, sampling, mechanism):
    found = plan("--dp_mechanism=gaussian", "--noise_multiplier=1", f"--sampling={sampling}")
    delta = 100**-1.1
    for rounds in (1, 7, 30):
        assert found.figures(rounds) == {"privacy/epsilon": privacy.epsilon(mechanism, rounds, delta)}


@pytest.mark.parametrize("mechanism", ["gaussian", "adaptive", "tree", "banded"])
def test_a_target_is_met_and_not_missed(plan, mechanism):
    sampling = "min_separation" if mechanism in ("tree", "banded") else "poisson"
    found = plan(f"--dp_mechanism={mechanism}", "--target_epsilon=3", f"--sampling={sampling}", "--rounds=40")
    assert 2.95 < found.figures(40)["privacy/epsilon"] <= 3
    assert "epsilon 3 at delta 0.0063 after 40 rounds" in found.told()


def test_it_stops_in_time(plan):
    found = plan("--dp_mechanism=gaussian", "--noise_multiplier=0.6", "--sampling=poisson", "--stop_at_epsilon=2")
    assert 0 < found.rounds < 30
    assert found.figures(found.rounds)["privacy/epsilon"] <= 2 < found.figures(found.rounds + 1)["privacy/epsilon"]
    assert f"after {found.rounds} rounds (of 30: the next would exceed" in found.told()


def test_a_larger_federation_needs_less_noise_in_its_simulation(plan):
    """100 clients stand for 10,000: cohorts of 500, whose mean has a hundredth of the noise for the same multiplier."""
    found = plan(*GAUSSIAN, "--population=10000")
    assert (found.cohort, found.scale) == (500, 0.01)
    same = privacy.Gaussian(1.0, "poisson", 500, 10_000)
    assert found.figures(3) == {"privacy/epsilon": privacy.epsilon(same, 3, 10_000**-1.1)}
    assert "10,000 clients with cohorts of 500, which 100 clients with cohorts of 5 simulate" in found.told()


def first_noise(found, size=20_000):
    """The noise of the mean in a first round without clients, and the metrics' if there are any."""
    sgd = algorithms.build_optimizer("sgd", 1.0)
    options = found.options(algorithms.Options(lambda rate: sgd, sgd), seed=1)
    assert not options.weighted
    with LocalEngine(echo.process(options.aggregator, size)) as engine:
        ((noise,),) = [echo.aggregates(engine, [[]])]
    return noise


@pytest.mark.parametrize(
    ("line", "deviation"),
    [
        (GAUSSIAN, 0.3 / 5),
        ((*GAUSSIAN, "--compression=eden1"), 0.3 / 5),
        ((*GAUSSIAN, "--dp_clip_norm=2", "--population=10000"), 2 / 5 / 100),
        ((*GAUSSIAN, "--dp_metrics=withheld"), 0.3 / 5),
        # A fiftieth of the budget is the metrics': z' = z / sqrt(0.98).
        ((*GAUSSIAN, "--dp_metrics=private"), 0.3 / 5 / math.sqrt(0.98)),
        # And of the rest (2 * 3)^-2 the count's.
        (("--dp_mechanism=adaptive", *GAUSSIAN[1:], "--dp_clip_count_stddev=3"), 0.3 / 5 / math.sqrt(1 - 1 / 36)),
        (TREE, 0.3 / 5),
        (("--dp_mechanism=banded", *TREE[1:], "--bands=1"), 0.3 / 5),
    ],
)
def test_the_noise_of_a_round_is_the_accounted_one(plan, line, deviation):
    noise = first_noise(plan(*line, "--dp_noise_seed=1"))
    assert noise.std() == pytest.approx(deviation, rel=5 / np.sqrt(2 * len(noise)))


def test_banded_noise_is_optimized_for_the_server(plan):
    """Of the optimum for the server's momentum, and with the bands that the separation allows."""
    line = ("--dp_mechanism=banded", *TREE[1:], "--rounds=12", "--min_separation=4", "--server_momentum=0.9")
    with_momentum, without = (plan(*given).ledger.mechanism.matrix for given in (line, line[:-1]))
    assert with_momentum.bands == without.bands == 4
    for found, momentum in ((with_momentum, 0.9), (without, 0.0)):
        expected = privacy.optimize_banded(12, 4, privacy.workload(12, momentum))
        np.testing.assert_allclose(found.rows, expected.rows, atol=1e-6)
    assert np.abs(with_momentum.rows - without.rows).max() > 1e-3


def test_seeds_repeat_noise_and_nothing_else_does(plan):
    seeded = [first_noise(plan(*GAUSSIAN, f"--dp_noise_seed={seed}"), 50) for seed in (1, 1, 2)]
    unseeded = [first_noise(plan(*GAUSSIAN), 50) for _ in range(2)]
    np.testing.assert_array_equal(seeded[0], seeded[1])
    assert not np.array_equal(seeded[0], seeded[2])
    assert not np.array_equal(*unseeded)


# The statement


def test_the_statement_names_what_is_outside(plan):
    told = plan(*GAUSSIAN).statement()
    assert "metrics of training (`train/`" in told
    assert "`cohorts.jsonl`" in told
    assert "--dp_clip_norm=0.3" in told
    assert "operating system's randomness" in told
    assert "simulates" not in told
    for metrics in ("private", "withheld"):
        assert "metrics of training (`train/`" not in plan(*GAUSSIAN, f"--dp_metrics={metrics}").statement()
    assert "no protection from those who know it" in re.sub(
        r"\s+", " ", plan(*GAUSSIAN, "--dp_noise_seed=3").statement()
    )
    assert "federation of 10,000 clients with cohorts of 500" in plan(*GAUSSIAN, "--population=10000").statement()


# Whole runs

MODEL = '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
DIGITS = ("--dataset=digits", "--num_clients=12", "--clients_per_round=3", "--local_steps=2", MODEL, "--rounds=4")


def rows(directory):
    return pd.read_csv(directory / "metrics.csv")


def test_a_private_run_says_what_was_spent_and_survives_its_end(tmp_path, cache_dir):
    """Poisson cohorts, empty ones too; resumed, it goes on with the noise whose seed nobody gave."""
    line = [*DIGITS, *GAUSSIAN, "--clients_per_round=1", "--dp_metrics=private", "--stop_at_epsilon=100", "--seed=5"]
    line += ["--rounds_per_evaluation=0", "--rounds_per_checkpoint=2", f"--cache_dir={cache_dir}", "--run_dir=run"]
    out, _ = run("train", *line, cwd=tmp_path)
    assert "Privacy: epsilon" in out
    table, directory = rows(tmp_path / "run"), tmp_path / "run"
    mechanism = privacy.Gaussian(1.0, "poisson", 1, 12)
    expected = [privacy.epsilon(mechanism, r, 12**-1.1) for r in (1, 2, 3, 4)]
    np.testing.assert_allclose(table["privacy/epsilon"], expected)
    assert 0 in table["clients/sampled"].tolist()
    assert "train/num_examples" not in table
    report = (directory / "report.md").read_text()
    assert "## Privacy" in report
    assert f"epsilon = {expected[-1]:.4g}" in report
    config = json.loads((directory / "config.json").read_text())
    assert config["flags"]["weighted"] is False
    assert config["flags"]["dp_noise_seed"] is None
    assert config["privacy"]["noise_multiplier"] == 1
    # A run that had come to round 2 only, resumed with its own state.
    weights = (directory / "model" / "model.safetensors").read_bytes()
    last = directory / "checkpoints" / "round_4"
    last.rename(tmp_path / "round_4")
    run("train", *line, cwd=tmp_path)
    assert (directory / "model" / "model.safetensors").read_bytes() == weights
    np.testing.assert_allclose(rows(directory)["privacy/epsilon"], expected)
    np.testing.assert_array_equal(rows(directory)["train/loss"], table["train/loss"])


def test_private_clients_may_compress(tmp_path, cache_dir):
    line = [*DIGITS, *GAUSSIAN, "--compression=eden1", "--rounds_per_evaluation=0", f"--cache_dir={cache_dir}"]
    out, _ = run("train", *line, "--run_dir=run", cwd=tmp_path)
    assert "Privacy: epsilon" in out
    parameters = json.loads((tmp_path / "run" / "config.json").read_text())["parameters"]["trainable"]
    uploads = rows(tmp_path / "run")["comm/upload_bytes_per_client"].dropna()
    assert len(uploads)
    assert (uploads < parameters * 4 / 5).all()


def test_a_mistake_leaves_nothing(tmp_path, cache_dir):
    line = [*DIGITS, *TREE, "--min_separation=9", f"--cache_dir={cache_dir}", "--run_dir=run"]
    _, err = run("train", *line, cwd=tmp_path, code=2)
    assert "--min_separation=9 leaves 1 of the 12" in err
    assert not (tmp_path / "run").exists()
