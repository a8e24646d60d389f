"""Samplers that go by losses, in a run: what is recorded, and that a resumed run asks the same clients."""

import json

import pandas as pd
import pytest

import tff_tx as ft

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.mark.slow
def test_a_resumed_run_samples_by_the_losses_of_the_rounds_before(cache_dir, tmp_path):
    task = ft.load_task(
        data=ft.Data("digits", clients=ft.Iid(10), test=20), model=ft.Model(config=TINY), cache_dir=cache_dir
    )
    devices = ft.Devices(seconds_per_example=0.1, speed_spread=1.0)
    parts = {"algorithm": ft.FedAvg(steps=1), "clients_per_round": 3, "sampling": "oort", "devices": devices}
    begun, straight = (ft.Trainer(task, **parts, run_dir=str(tmp_path / n), progress=False) for n in "ab")
    straight.fit(rounds=4)
    begun.fit(rounds=2)
    with open(tmp_path / "a" / "feedback.jsonl", "ab") as file:
        file.write(b'{"round_num": 3, "losses": {"0')  # a kill
    begun.fit(rounds=4)
    logs = [(tmp_path / name / "cohorts.jsonl").read_text() for name in "ab"]
    assert logs[0] == logs[1]
    tables = [pd.read_csv(tmp_path / name / "metrics.csv").filter(regex="^(train|eval)/") for name in "ab"]
    pd.testing.assert_frame_equal(*tables)
    told = [json.loads(line) for line in (tmp_path / "b" / "feedback.jsonl").read_text().splitlines() if line]
    cohorts = [json.loads(line)["reported"] for line in logs[1].splitlines()]
    assert [sorted(record["losses"]) for record in told] == [sorted(cohort) for cohort in cohorts]
    # The round's loss is that of all examples of its clients, each as many here.
    means = [sum(record["losses"].values()) / 3 for record in told]
    assert means == pytest.approx(tables[1]["train/loss"].tolist(), rel=1e-4)
