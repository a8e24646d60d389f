"""Private runs: what they spend, release and leave."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.processes import run
from tff_tx import privacy
from tff_tx.privacy import outputs
from tff_tx.run.directory import read_run

GAUSSIAN = ("--dp_mechanism=gaussian", "--noise_multiplier=1", "--sampling=poisson")
TREE = ("--dp_mechanism=tree", "--noise_multiplier=1", "--sampling=min_separation")
MODEL = '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
DIGITS = ("--dataset=digits", "--num_clients=12", "--clients_per_round=3", "--local_steps=2", MODEL, "--rounds=4")


def rows(directory):
    return pd.read_csv(directory / "metrics.csv")


def unmarked(directory):
    """Files and columns of a run of which the statement does not know whom they are for."""
    config = read_run(str(directory)).config
    paths = [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]
    found = [path for path in paths if outputs.mark_of(path, config, outputs.FILES) is None]
    return found + [column for column in rows(directory) if outputs.mark_of(column, config) is None]


@pytest.mark.slow
def test_a_run_that_withholds_has_no_figure_outside_of_the_guarantee(tmp_path, cache_dir):
    line = [*DIGITS, *GAUSSIAN, "--dp_metrics=withheld", "--compression=eden1", "--seconds_per_example=1"]
    run("train", *line, "--rounds_per_evaluation=2", f"--cache_dir={cache_dir}", "--run_dir=run", cwd=tmp_path)
    directory = tmp_path / "run"
    assert unmarked(directory) == []
    shown = {column.partition("/")[0] for column in rows(directory)}
    assert not shown & {"clients", "comm", "simulated", "time"}
    assert "train/loss" not in rows(directory)
    assert "what rounds cost depends on the clients in them" in (directory / "report.md").read_text()


@pytest.mark.slow
def test_a_private_run_says_what_was_spent_and_survives_its_end(tmp_path, cache_dir):
    """Poisson cohorts, empty ones too; resumed, it goes on with the noise whose seed nobody gave."""
    line = [
        *DIGITS,
        *GAUSSIAN,
        "--clients_per_round=1",
        "--dp_metrics=private",
        "--stop_at_epsilon=100",
        "--dp_sampling_seed=5",
    ]
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
    assert "## Clients of" not in report, "figures of single clients have no noise"
    assert f"epsilon = {expected[-1]:.4g}" in report
    config = json.loads((directory / "config.json").read_text())
    assert config["algorithm"]["weighted"] is None
    assert config["privacy"]["noise_seed"] is None
    assert config["facts"]["privacy"]["noise_multiplier"] == 1
    assert unmarked(directory) == []
    assert "fingerprints" not in config["facts"]
    assert {"train data", "model"} <= set(read_run(str(directory)).facts["fingerprints"])  # which a resume checks
    # A run that had come to round 2 only, resumed with its own state.
    weights = (directory / "model" / "model.safetensors").read_bytes()
    last = directory / "checkpoints" / "round_4"
    last.rename(tmp_path / "round_4")
    run("train", *line, cwd=tmp_path)
    assert (directory / "model" / "model.safetensors").read_bytes() == weights
    np.testing.assert_allclose(rows(directory)["privacy/epsilon"], expected)
    np.testing.assert_array_equal(rows(directory)["train/loss"], table["train/loss"])


@pytest.mark.slow
def test_private_clients_may_compress(tmp_path, cache_dir):
    line = [*DIGITS, *GAUSSIAN, "--compression=eden1", "--rounds_per_evaluation=0", f"--cache_dir={cache_dir}"]
    out, _ = run("train", *line, "--run_dir=run", cwd=tmp_path)
    assert "Privacy: epsilon" in out
    parameters = json.loads((tmp_path / "run" / "config.json").read_text())["facts"]["parameters"]["trainable"]
    uploads = rows(tmp_path / "run")["comm/upload_bytes_per_client"].dropna()
    assert len(uploads)
    assert (uploads < parameters * 4 / 5).all()


def test_a_mistake_leaves_nothing(tmp_path, cache_dir):
    line = [*DIGITS, *TREE, "--min_separation=9", f"--cache_dir={cache_dir}", "--run_dir=run"]
    _, err = run("train", *line, cwd=tmp_path, code=2)
    assert "--min_separation=9 leaves 1 of the 12" in err
    assert not (tmp_path / "run").exists()
