"""Audits as users run them, and that what they find is there: a model that has learned by heart leaks."""

import json

import pandas as pd
import pytest

from tests.processes import run

STDLIB = [
    *("--dataset=stdlib", "--num_clients=12", "--test_fraction=4", "--max_train_examples_per_client=2"),
    '--model_config={"n_embd": 32, "n_layer": 1, "n_head": 2, "embd_pdrop": 0, "attn_pdrop": 0, "resid_pdrop": 0}',
    *("--max_length=16", "--canary_length=12", "--canaries=40", "--canary_repetitions=4", "--batch_size=8"),
    *("--local_epochs=1", "--clients_per_round=14", "--rounds_per_evaluation=0", "--rounds_per_checkpoint=1000"),
]
BY_HEART = ["--algorithm=fed_sgd", "--server_optimizer=adam", "--server_learning_rate=0.02", "--rounds=80"]
PRIVATE = [
    *("--dp_mechanism=gaussian", "--noise_multiplier=2", "--dp_clip_norm=1", "--dp_noise_seed=1", "--rounds=8"),
    *("--sampling=poisson", "--dp_sampling_seed=1", "--client_optimizer=sgd", "--client_learning_rate=0.1"),
]


def audited(place, cache, name, *more):
    run("train", *STDLIB, *more, f"--run_dir={name}", cache, cwd=place)
    out, _ = run("audit", f"--run_dir={name}", "--references=200", cache, cwd=place)
    return json.loads((place / name / "audit" / "audit.json").read_text()), out


@pytest.mark.slow
def test_a_model_that_learned_by_heart_leaks(place, cache):
    found, out = audited(place, cache, "leaky", *BY_HEART)
    attack = found["membership"]["examples, by loss"]
    assert attack["auc"] > 0.5 + 4 * attack["auc_standard_error"]
    assert found["exposure"]["4"]["mean"] > 5
    assert found["exposure"]["0"]["mean"] < 3
    assert found["epsilon"]["lower_bound"]["epsilon"] > 1.0
    assert found["epsilon"]["accounted"] is None
    report = (place / "leaky" / "report.md").read_text()
    assert report.count("## Audit") == 1
    assert "| exposure: " in out
    run("audit", "--run_dir=leaky", "--references=200", cache, cwd=place)
    assert (place / "leaky" / "report.md").read_text() == report


@pytest.mark.slow
def test_a_private_model_does_not(place, cache):
    found, out = audited(place, cache, "private", *PRIVATE)
    attack = found["membership"]["examples, by loss"]
    assert abs(attack["auc"] - 0.5) < 4 * attack["auc_standard_error"]
    assert found["exposure"]["4"]["mean"] < 3
    accounted = pd.read_csv(place / "private" / "metrics.csv")["privacy/epsilon"].iloc[-1]
    assert found["epsilon"]["lower_bound"]["epsilon"] < found["epsilon"]["accounted"] == accounted
    assert found["epsilon"]["lower_bound"]["delta"] < 0.1
    assert f"{accounted:.3g} accounted" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "mechanism",
    [
        pytest.param(["--local_dp_clip_norm=0.5", "--local_dp_noise_multiplier=4"], marks=pytest.mark.slow),
        ["--dp_mechanism=gaussian", "--noise_multiplier=2", "--dp_noise_seed=1"],
        pytest.param(["--example_dp_clip_norm=0.5", "--example_dp_noise_multiplier=2"], marks=pytest.mark.slow),
        pytest.param(
            ["--dp_mechanism=tree", "--noise_multiplier=2", "--dp_noise_seed=1", "--sampling=min_separation"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["local", "gaussian", "examples", "tree"],
)
def test_a_mechanism_is_audited_without_a_run(mechanism, place):
    out, _ = run("audit", "--mechanism", *mechanism, "--audit_canaries=300", "--output_dir=found", cwd=place)
    found = json.loads((place / "found" / "mechanism.json").read_text())
    assert 0 < found["lower_bound"]["epsilon"] < found["accounted"] == pytest.approx(1.998, abs=0.2)
    assert "not refuted" in out


@pytest.mark.parametrize(
    ("flags", "told"), [(["--run_dir=nowhere"], "has no config.json"), (["--mechanism"], "set exactly one")]
)
def test_wrong_flags_of_audits_are_told(flags, told, place):
    _, err = run("audit", *flags, cwd=place, code=2)
    assert told in err
