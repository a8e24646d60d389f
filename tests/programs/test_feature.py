"""Features kept by programs.train, as users say it."""

import contextlib
import json
import time

import numpy as np
import pandas as pd
import pytest

import tff_tx as ft
from tests.complaints import complaint
from tests.processes import Forked, run
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.fine_tuning import FineTuning
from tff_tx.tasks import FeatureCache

TINY_VIT = (
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
)
TINY = json.loads(TINY_VIT.split("=", 1)[1])
DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=3", "--max_examples=32", TINY_VIT),
    *("--rounds_per_evaluation=2", "--trainable=head"),
]


FED_BUFF = ["--buffer_size=2", "--seconds_per_example=0.1", "--device_speed_spread=1.0"]
DP_SGD = ["--example_dp_clip_norm=1.0", "--example_dp_noise_multiplier=0.1"]
PRIVATE = ["--dp_mechanism=gaussian", "--noise_multiplier=0.1", "--dp_noise_seed=1", "--dp_sampling_seed=1"]


@pytest.fixture(scope="module")
def undisturbed(place, cache):
    """The directory of a run on features, and what it printed."""
    out, _ = run("train", *DIGITS, "--rounds=4", "--cache_features", cache, "--run_dir=undisturbed", cwd=place)
    return place / "undisturbed", out


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--distillation_weight=0.2"],
        FED_BUFF,
        DP_SGD,
        PRIVATE,
        ["--engine=tff_native"],
    ],
    ids=["plain", "FedGKD", "FedBuff", "DP-SGD", "DP-FedAvg", "native"],
)
def test_a_run_on_features_gives_what_the_run_on_examples_gives(tmp_path, cache, undisturbed, more):
    """The model has no dropout, so that both compute the same."""
    flags, (on_features, out) = [*DIGITS, "--rounds=4", *more, cache], undisturbed
    run("train", *flags, "--run_dir=whole", cwd=tmp_path)
    if more:
        out, _ = run("train", *flags, "--run_dir=cached", "--cache_features", cwd=tmp_path)
        on_features = tmp_path / "cached"
    assert "activation cache: up to" in out
    runs = tmp_path / "whole", on_features
    whole, cached = (pd.read_csv(path / "metrics.csv") for path in runs)
    assert set(cached) - set(whole) == {"time/features_seconds"}
    for column in whole:
        if column.startswith("comm/"):
            assert cached[column].tolist() == whole[column].tolist()
        elif not column.startswith("time/"):
            np.testing.assert_allclose(cached[column], whole[column], rtol=2e-3, err_msg=column)
    results = [json.loads((path / "results.json").read_text())["test"] for path in runs]
    assert results[1] == pytest.approx(results[0], rel=1e-3)
    assert 0 < len(list((on_features / "features" / "train").glob("*.sqlite"))) <= 6
    if not more:  # the evaluation does not depend on how the model was trained
        evaluated, _ = run("evaluate", f"--run_dir={on_features}", cache, cwd=tmp_path)
        assert "accuracy" in evaluated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("personal", "algorithm", "asked"),
    [(None, {}, {"alone_epochs": 2}), (None, {}, {"personalize_epochs": 2}), ("head", ft.FedBABU, {})],
    ids=["alone", "fine-tuned", "FedBABU"],
)
def test_models_trained_at_evaluation_take_the_features_of_the_run(
    cache_dir, tmp_path, monkeypatch, personal, algorithm, asked
):
    """They are what training on examples gives; clients alone begin where the run did, whose activations there are."""
    trainable = "layers:classifier|layernorm/"
    model = ft.Model(config=TINY, trainable=trainable, cache_features=True, personal=personal)
    data = ft.Data("digits", clients=ft.Dirichlet(3, alpha=1.0), test=0.25, split="within_client")
    task = ft.load_task(data=data, model=model, cache_dir=cache_dir)
    chosen = {"algorithm": algorithm(personal_epochs=2)} if algorithm else {}
    trainer = ft.Trainer(task, clients_per_round=3, run_dir=str(tmp_path / "run"), progress=False, **chosen)
    trainer.fit(rounds=1)
    written, write = [], FeatureCache._write
    monkeypatch.setattr(FeatureCache, "_write", lambda self, *one: written.append(one) or write(self, *one))
    cached = trainer.evaluate("test", **asked)
    assert len(written) == (0 if "alone_epochs" in asked else 6)  # once for each client and split
    monkeypatch.setattr(task_parts, "on_features", lambda run, task, names: contextlib.nullcontext(task))
    whole = trainer.evaluate("test", **asked)
    for one, other in zip((cached.by_client, *cached.others.values()), (whole.by_client, *whole.others.values())):
        np.testing.assert_allclose(one, other, rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["within_client", "client"])
def test_models_made_for_evaluation_in_training_come_from_features(cache_dir, tmp_path, monkeypatch, split):
    """Also those of clients that are held out, which are evaluated on other records than theirs are made from."""
    data = ft.Data("digits", clients=ft.Dirichlet(4, alpha=1.0), test=0.25, split=split)
    found, called, tune, often = {}, [], FineTuning.__call__, {"rounds_per_evaluation": 1, "progress": False}

    def tuned(self, *given):
        called.append(self)
        return tune(self, *given)

    monkeypatch.setattr(FineTuning, "__call__", tuned)
    for cached in (False, True):
        model = ft.Model(config=TINY, trainable="layers:classifier|layernorm/", cache_features=cached, personal="head")
        task = ft.load_task(data=data, model=model, cache_dir=cache_dir)
        algorithm, directory = ft.FedBABU(personal_epochs=2), str(tmp_path / str(cached))
        trainer = ft.Trainer(task, algorithm=algorithm, clients_per_round=2, run_dir=directory, **often)
        found[cached] = trainer.fit(rounds=1).filter(like="eval/")
        specs = {name for tuning in called for name in tuning._reader.element_spec[0]}
        assert ("pixel_values" in specs) is not cached
        called.clear()
    assert found[True].shape[1] > 3
    results = [json.loads((tmp_path / name / "results.json").read_text())["test"] for name in ("False", "True")]
    assert results[1] == pytest.approx(results[0], rel=2e-3)
    for column in found[False]:
        np.testing.assert_allclose(found[True][column], found[False][column], rtol=2e-3, err_msg=column)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--nocache_features", "--feature_cache_bytes=7"],
            "--feature_cache_bytes=7 has no effect with --cache_features=False",
        ),
        (["--trainable=all"], "there are no frozen weights whose activations could be stored"),
        (["--trainable=bias"], "--cache_features: below the lowest trained weight TFViT"),
        (["--engine=ray"], "the cache is on this machine's disk"),
        (["--attack=backdoor"], "triggers are put into examples"),
        (["--bucket_by_length"], "activations have no length to sort by"),
        (["--gradient_checkpointing"], "blocks that are computed once are not computed again"),
        (["--feature_cache_bytes=100"], "--feature_cache_bytes=100 is less than the"),
    ],
)
def test_mistakes(tmp_path, cache, flags, sentence):
    line = [*DIGITS, "--cache_features", *flags, f"--run_dir={tmp_path}/run", cache]
    assert sentence in complaint(*line, loads=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_and_started_again_ends_the_same(place, cache, undisturbed):
    """kill -9 while there are features of some clients, then the same command: the same model, to the bit."""
    flags = [*DIGITS, "--rounds=4", "--cache_features", cache]
    process = Forked("programs.train", [*flags, "--run_dir=killed"], place, log := place / "killed.log")
    deadline = time.monotonic() + 300
    while not list((place / "killed").glob("features/train/*.sqlite")):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    run("train", *flags, "--run_dir=killed", cwd=place)
    weights = [(place / name / "model" / "model.safetensors").read_bytes() for name in ("killed", "undisturbed")]
    assert weights[0] == weights[1]
    assert not list((place / "killed").glob("features/*/*.tmp"))
