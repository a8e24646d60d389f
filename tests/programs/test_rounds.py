"""Runs with attackers, and with clients that do not wait for one another."""

import json

import pandas as pd
import pytest

from tests.processes import run

DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=4", "--local_steps=2"),
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}',
]


@pytest.mark.slow
def test_a_run_with_attackers_records_them_and_measures_the_backdoor(tmp_path, cache_dir):
    line = [*DIGITS, "--rounds=2", "--run_dir=run", "--rounds_per_evaluation=1", f"--cache_dir={cache_dir}"]
    line += ["--attack=backdoor", "--attackers=0.5", "--aggregator=multi_krum", "--assumed_attackers=0.1"]
    run("train", *line, cwd=tmp_path)
    record = json.loads((tmp_path / "run" / "attackers.json").read_text())
    assert record["attack"] == "backdoor"
    assert len(record["attackers"]) == 3
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["aggregator/selected"].tolist() == [4, 4]
    assert table["eval/backdoor_success"].between(0, 1).all()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 0 <= results["test"]["backdoor_success"] <= 1


@pytest.mark.slow
def test_a_run_says_how_stale_its_updates_were(tmp_path, cache_dir):
    line = [*DIGITS, "--rounds=4", "--buffer_size=1", "--seconds_per_example=0.1", "--device_speed_spread=1.0"]
    line += ["--rounds_per_checkpoint=2", "--rounds_per_evaluation=0", f"--cache_dir={cache_dir}", "--run_dir=run"]
    run("train", *line, cwd=tmp_path)
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["clients/finished"].tolist() == [1] * 4
    assert table["staleness/max"].max() >= 1
    assert table["simulated/total_seconds"].is_monotonic_increasing
