"""`programs.tune`: studies that are killed at random moments, and private ones."""

import json
import random
import re
import time

import pandas as pd
import pytest

from tests.processes import Forked, run

STUDY = [
    "--dataset=digits",
    "--num_clients=12",
    "--partition=iid",
    "--test_fraction=0.1",
    "--validation_fraction=0.2",
    "--clients_per_round=2",
    "--local_steps=1",
    "--rounds=2",
    "--rounds_per_checkpoint=1",
    "--tuning_reduction=2",
    "--tuning_clients=2",
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}',
]


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def kill(flags, place, counts, moments):
    """Starts a study and kills it, a random moment after it has trained a round that it had not."""
    before, deadline = len(set(lines(counts))), time.monotonic() + 400
    process = Forked("programs.tune", flags, place, log := place / "killed.log")
    while len(set(lines(counts))) == before:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.5))
    process.kill()


@pytest.mark.slow
def test_a_study_that_is_killed_twice_equals_the_undisturbed_one(place, cache, monkeypatch):
    """Rounds that have a checkpoint are not trained again: each kill costs one at most, that which it interrupts."""
    flags = [*STUDY, "--budget=3 rounds", "--import=tests.programs.counted", cache]
    trained = {}
    for name, kills in (("whole", 0), ("killed", 2)):
        trained[name] = place / f"{name}.txt"
        monkeypatch.setenv("COUNTED_ROUNDS", str(trained[name]))
        moments = random.Random(kills)
        for _ in range(kills):
            kill([*flags, f"--study_dir={name}"], place, trained[name], moments)
        run("tune", *flags, f"--study_dir={name}", cwd=place)
    whole = lines(trained["whole"])
    assert len(whole) == len(set(whole)) == 3
    assert set(lines(trained["killed"])) == set(whole)
    assert len(lines(trained["killed"])) <= len(whole) + 2
    studies = [place / name for name in trained]
    tables = [pd.read_csv(study / "table.csv", dtype=str) for study in studies]
    pd.testing.assert_frame_equal(*tables)
    assert len({(study / "best.flags").read_text() for study in studies}) == 1
    assert len({(study / "best" / "model" / "model.safetensors").read_bytes() for study in studies}) == 1
    spent = [len(lines(study / "records.jsonl")) for study in studies]
    assert spent[0] == spent[1]


@pytest.mark.slow
def test_a_private_study_prints_both_prices_and_states_what_it_guarantees(place, cache):
    """The noise is that of all rounds of the study, not of one run."""
    privacy = ["--dp_mechanism=gaussian", "--target_epsilon=4", "--population=10000", "--sampling=poisson"]
    flags = [*STUDY, *privacy, "--validation_fraction=0.3", "--budget=3 rounds", "--study_dir=private", cache]
    out, _ = run("tune", *flags, cwd=place)
    prices = r"by composition; noise multipliers: composition (\S+), private selection (\S+)\."
    found = re.search(rf"Privacy of the study: epsilon 4 at delta \S+, {prices}", out)
    assert found is not None, out
    composition, selection = map(float, found.groups())
    assert composition < selection
    statement = (place / "private" / "privacy.md").read_text()
    assert found[0] in statement
    assert "3 rounds together" in statement
    assert statement.strip() in (place / "private" / "best" / "report.md").read_text()
    noise = [line for line in lines(place / "private" / "best.flags") if line.startswith("--noise_multiplier")]
    assert float(noise[0].partition("=")[2]) == pytest.approx(composition, rel=1e-3)
    spent = [json.loads(line) for line in lines(place / "private" / "records.jsonl")]
    assert sum(record["cost"]["rounds"] for record in spent if "rounds" in record.get("cost", {})) == 3
