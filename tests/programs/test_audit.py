"""Audits as users run them; that they find what is there, `tests/run/test_audit` has."""

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
PRIVATE = [
    *("--dp_mechanism=gaussian", "--noise_multiplier=2", "--dp_clip_norm=1", "--dp_noise_seed=1", "--rounds=8"),
    *("--sampling=poisson", "--dp_sampling_seed=1", "--client_optimizer=sgd", "--client_learning_rate=0.1"),
]


@pytest.mark.slow
def test_a_private_model_does_not_leak(place, cache):
    run("train", *STDLIB, *PRIVATE, "--run_dir=private", cache, cwd=place)
    out, _ = run("audit", "--run_dir=private", "--references=200", cache, cwd=place)
    found = json.loads((place / "private" / "audit" / "audit.json").read_text())
    attack = found["membership"]["examples, by loss"]
    assert abs(attack["auc"] - 0.5) < 4 * attack["auc_standard_error"]
    assert found["exposure"]["4"]["mean"] < 3
    accounted = pd.read_csv(place / "private" / "metrics.csv")["privacy/epsilon"].iloc[-1]
    assert found["epsilon"]["lower_bound"]["epsilon"] < found["epsilon"]["accounted"] == accounted
    assert found["epsilon"]["lower_bound"]["delta"] < 0.1
    assert f"{accounted:.3g} accounted" in out


@pytest.mark.slow
def test_a_mechanism_is_audited_without_a_run(place):
    """A tree that every client adds to once; other mechanisms, `tests/run/test_mechanism_audit` has."""
    tree = ["--dp_mechanism=tree", "--noise_multiplier=2", "--dp_noise_seed=1", "--sampling=min_separation"]
    out, _ = run("audit", "--mechanism", *tree, "--audit_canaries=300", "--output_dir=found", cwd=place)
    found = json.loads((place / "found" / "mechanism.json").read_text())
    assert 0 < found["lower_bound"]["epsilon"] < found["accounted"] == pytest.approx(1.998, abs=0.2)
    assert "not refuted" in out


@pytest.mark.parametrize(
    ("flags", "told"), [(["--run_dir=nowhere"], "has no config.json"), (["--mechanism"], "set exactly one")]
)
def test_wrong_flags_of_audits_are_told(flags, told, place):
    _, err = run("audit", *flags, cwd=place, code=2)
    assert told in err
