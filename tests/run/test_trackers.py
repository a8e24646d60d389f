"""What a run sends to experiment trackers and to the hub, by their own packages."""

import os
import pathlib
import subprocess
import sys

import pandas as pd
import pytest

from tests.processes import ROOT
from tests.run.hub_stand_in import hub
from tff_tx.core.errors import UserError
from tff_tx.run import hub as uploads

PACKAGES = ROOT / ".venv-trackers"
FLAGS = [
    *("--dataset=digits", "--num_clients=4", "--clients_per_round=2", "--local_steps=1", "--rounds_per_evaluation=2"),
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}',
    "--run_dir=run",
]


def train(cwd, *flags, **environment):
    hub_settings = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-m", "programs.train", *FLAGS, *flags],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{PACKAGES}",
            **hub_settings,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def files_of(directory: pathlib.Path):
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.skipif(not (PACKAGES / "complete").exists(), reason="`make trackers` installs MLflow and W&B")
def test_trackers_get_the_figures_and_a_resumed_run_goes_on_with_its_own(tmp_path):
    where = {"MLFLOW_TRACKING_URI": f"file:{tmp_path / 'mlruns'}", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    where |= {"MLFLOW_ALLOW_FILE_STORE": "true", "HOME": str(tmp_path)}
    for rounds in (2, 3):
        done = train(tmp_path, f"--rounds={rounds}", "--trackers=mlflow,wandb", **where)
        assert done.returncode == 0, done.stderr[-3000:]
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    (metric,) = (tmp_path / "mlruns").rglob("metrics/train/loss")
    sent = [line.split() for line in metric.read_text().splitlines()]
    assert [int(step) for _, _, step in sent] == [1, 2, 3]
    assert [float(value) for _, value, _ in sent] == pytest.approx(rows["train/loss"].tolist())
    (parameter,) = (tmp_path / "mlruns").rglob("params/data.num_clients")
    assert parameter.read_text() == "4"
    kept = [path.read_bytes() for path in (tmp_path / "run" / "wandb").rglob("run-*.wandb")]
    assert len({path.stem for path in (tmp_path / "run" / "wandb").rglob("run-*.wandb")}) == 1
    assert all(b"train/loss" in content for content in kept)


@pytest.mark.slow
def test_the_model_is_uploaded_and_what_failed_is_tried_again(tmp_path):
    with hub() as (found, address):
        where = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path / "hf")}
        found.refuses = True
        refused = train(tmp_path, "--rounds=1", "--push_to_hub=us/digits", **where)
        assert refused.returncode == 2
        assert "was not uploaded" in refused.stderr
        assert "the same command tries again" in refused.stderr
        assert "Traceback" not in refused.stderr
        found.refuses = False
        done = train(tmp_path, "--rounds=1", "--push_to_hub=us/digits", **where)
        assert done.returncode == 0, done.stderr[-3000:]
    assert f"Uploaded to {address}/us/digits" in done.stdout
    assert found.files == {"us/digits": files_of(tmp_path / "run" / "model")}
    assert found.private == {"us/digits": True}
    assert found.tokens == {"Bearer hf_secret"}


def test_names_and_tokens_are_checked_before_training(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="must be OWNER/NAME"):
        uploads.check("a/b/c")
    with pytest.raises(UserError, match="there is no token"):
        uploads.check("a/b")
