"""A signal in any phase of a run ends it in a sentence, and the same command ends as if there had been none."""

import signal

import pandas as pd
import pytest

from tests.processes import run

FLAGS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=4", "--local_steps=2", "--rounds=3"),
    *("--rounds_per_evaluation=2", "--rounds_per_checkpoint=2"),
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}',
]
PHASES = {
    "surveying": "tff_tx.datasets.survey_pass:_Pass.over",
    "encoding": "tff_tx.datasets.store:StoreWriter.add",
    "building": "tff_tx.models.hugging_face:from_config",
    "tracing": "tff_tx.models.functional:functional_model",
    "compiling": "tff_tx.runtime.form:RoundForm.of",
    "beginning": "tff_tx.run.directory:write_config",
    "evaluating": "tff_tx.run.assemble.assembly:Assembly.evaluate_all",
    "writing the model": "tff_tx.models.hugging_face:save_pretrained",
    "writing the report": "tff_tx.run.reporting:write_report",
}
"""Each with a function that is called in it, in the order of a run."""


def stable(run_dir):
    table = pd.read_csv(run_dir / "metrics.csv", dtype=str)
    return table[[c for c in table if not c.startswith("time/")]]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.cluster)])
def test_a_signal_in_each_phase(engine, tmp_path, monkeypatch):
    flags = [*FLAGS, f"--engine={engine}", "--cache_dir=cache"]
    for phase, function in PHASES.items():
        monkeypatch.setenv("SIGNALLED_PHASE", function)
        line = [*flags, "--run_dir=run", "--import=tests.programs.signalled"]
        _, err = run("train", *line, cwd=tmp_path, code=128 + signal.SIGTERM)
        assert "Traceback" not in err, (phase, err)
        said = err.strip().splitlines()[-1]
        assert said == "stopped by SIGTERM; the same command resumes it.", phase
    run("train", *flags, "--run_dir=run", cwd=tmp_path)
    run("train", *flags, "--run_dir=whole", cwd=tmp_path)
    pd.testing.assert_frame_equal(stable(tmp_path / "run"), stable(tmp_path / "whole"))
    model = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert model[0] == model[1]
