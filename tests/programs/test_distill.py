"""Ensemble distillation, as users say it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import transformers

from tests.complaints import config_of
from tests.processes import run
from tests.programs.test_trainable import TINY_VIT
from tff_tx.config import check, flag_of, resolve
from tff_tx.core.errors import UserError
from tff_tx.run.assemble.ensemble import group_configs

DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=4", "--max_examples=8", "--rounds=2", TINY_VIT),
    *("--validation_fraction=0.1", "--ensemble_steps=2", "--ensemble_batch_size=16"),
]
GROUPS = [
    '--group={"name": "vit"}',
    '--group={"name": "swin", "architecture": "swin", "model_config": {"patch_size": 2, "embed_dim": 8, '
    '"depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "mlp_ratio": 2.0}}',
]


@pytest.mark.slow
def test_two_architectures_learn_from_one_another_and_a_run_resumes(tmp_path, cache_dir):
    flags = [*DIGITS, *GROUPS, f"--cache_dir={cache_dir}", "--rounds_per_checkpoint=1", "--run_dir=run"]
    run("distill", *flags, cwd=tmp_path)
    directory, results = tmp_path / "run", tmp_path / "run" / "results.json"
    rows, first = pd.read_csv(directory / "metrics.csv"), results.read_text()
    for name in ("vit", "swin"):
        assert (rows[f"distillation/{name}/loss"] > 0).all()
        assert f"eval/{name}/accuracy" in rows
        model = transformers.TFAutoModelForImageClassification.from_pretrained(directory / "groups" / name / "model")
        assert model.config.model_type == name
    out, _ = run("evaluate", "--run_dir=run/groups/swin", f"--cache_dir={cache_dir}", cwd=tmp_path)
    assert "Over all" in out
    # All of the second round once more, from the first round's checkpoint.
    checkpoints = sorted((directory / "checkpoints").glob("round_*"))
    assert len(checkpoints) == 2
    shutil.rmtree(checkpoints[-1])
    results.unlink()
    run("distill", *flags, cwd=tmp_path)
    assert sorted((directory / "checkpoints").glob("round_*")) == checkpoints
    columns = [c for c in rows if not c.startswith("time/")]
    np.testing.assert_array_equal(pd.read_csv(directory / "metrics.csv")[columns], rows[columns])
    assert json.loads(results.read_text()) == json.loads(first)


BERT = '"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16'
TEXT_GROUPS = [
    f'--group={{"name": "bert", "architecture": "bert", "model_config": {{{BERT}, "num_hidden_layers": 2}}}}',
    '--group={"name": "distilbert", "architecture": "distilbert", "model_config": {"dim": 16, "n_heads": 2, '
    '"n_layers": 1, "hidden_dim": 16}}',
    f'--group={{"name": "small", "architecture": "bert", "model_config": {{{BERT}, "num_hidden_layers": 1}}}}',
]


@pytest.mark.slow
@pytest.mark.parametrize("teachers", ["clients", "groups"])
def test_a_bert_a_distilbert_and_a_smaller_one_are_one_federation(tmp_path, cache_dir, teachers):
    words = {"sun": ["bright", "warm", "clear"], "rain": ["wet", "cold", "grey"]}
    rng = np.random.default_rng(0)
    rows = [(label, " ".join(rng.choice(words[label], 6))) for label in rng.choice(list(words), 150)]
    pd.DataFrame(rows, columns=["label", "text"]).to_csv(tmp_path / "weather.csv", index=False)
    out, _ = run(
        "distill",
        *("--dataset=file", "--data=weather.csv", "--task=sequence_classification", "--tokenizer=bytes"),
        *("--text_column=text", "--label_column=label", "--max_length=48", "--num_clients=6", "--clients_per_round=6"),
        *("--split=example", "--test_fraction=0.2", "--validation_fraction=0.2", "--local_epochs=2", "--batch_size=8"),
        *("--client_optimizer=adam", "--client_learning_rate=0.01", "--rounds=4", "--rounds_per_evaluation=0"),
        *("--ensemble_steps=10", "--ensemble_batch_size=16", f"--teachers={teachers}", *TEXT_GROUPS),
        *("--run_dir=run", f"--cache_dir={cache_dir}"),
        cwd=tmp_path,
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    parameters = set()
    for name in ("bert", "distilbert", "small"):
        assert results[f"test, {name}"]["accuracy"] > 0.8
        directory = tmp_path / "run" / "groups" / name
        model = transformers.TFAutoModelForSequenceClassification.from_pretrained(directory / "model")
        assert model.config.model_type == ("bert" if name == "small" else name)
        parameters.add(model.num_parameters())
    assert len(parameters) == 3
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert all((table[f"distillation/{name}/loss"] > 0).all() for name in ("bert", "distilbert", "small"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--validation_fraction=0"], "needs public data on the server"),
        (["--ensemble_steps=-1"], "--ensemble_steps=-1: must be at least 0"),
        (["--teachers=groups"], "--teachers=groups with a single group would teach it"),
        (["--engine=tff_native"], "--teachers=clients needs --engine=local"),
        (["--server_learning_rate=0.5"], "--server_learning_rate=0.5 cannot be combined with --teachers=clients"),
        (["--warmup_rounds=1"], "--warmup_rounds=1 cannot be combined with --teachers=clients"),
        (["--algorithm=mime_lite"], "cannot be combined with --algorithm=mime_lite"),
        (["--compression=eden1"], "cannot be combined with --compression=eden1"),
        (['--group={"name": "a"}', '--group={"name": "a"}'], "--group: the names a, a are not distinct"),
        (["--group={name}"], "--group={name} is not JSON"),
        (['--group={"name": "a", "layers": 2}'], "is not a JSON object with name, architecture"),
        (['--group={"model_config": {}}'], 'needs a "name" of letters'),
    ],
)
def test_mistakes(flags, sentence):
    line = [*DIGITS, "--ensemble_distillation", *flags]
    with pytest.raises(UserError) as caught:
        _check(*line)
    assert sentence in caught.value.describe(flag_of)


def _check(*line):
    config = resolve(config_of(*line))
    check(config)
    group_configs(config)
