"""Runs whose clients have weights of their own: evaluation, prediction, privacy, resuming."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import transformers

import tff_tx as ft
from tests.complaints import problem
from tff_tx.config import RunConfig, check, resolve
from tff_tx.core.errors import UserError
from tff_tx.privacy.statement import build_client_side_ledgers
from tff_tx.run.assemble.personal import stored_weights
from tff_tx.run.assemble.trained import export_run
from tff_tx.run.directory import read_run

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.fixture(scope="module")
def task(cache_dir):
    return ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(4, alpha=0.1), test=0.25, split="within_client"),
        model=ft.Model(config=TINY, personal="head"),
        cache_dir=cache_dir,
    )


def trainer(task, run_dir, **parts):
    chosen = {"algorithm": ft.FedAvg(client=ft.Adam(1e-2), epochs=1), "clients_per_round": 2, "progress": False}
    return ft.Trainer(task, run_dir=str(run_dir), **{**chosen, **parts})


@pytest.fixture(scope="module")
def trained(compiled_once, task, tmp_path_factory):
    found = trainer(task, tmp_path_factory.mktemp("trained"))
    found.fit(rounds=4)
    return found


def own(directory):
    """Of each client its own weights, as in the store."""
    return {path.parent.name: path.read_bytes() for path in sorted((directory / "personal").glob("*/*"))}


def forget(directory):
    """As if no client had left anything."""
    shutil.rmtree(directory / "checkpoints")
    shutil.rmtree(directory / "personal")


def test_what_clients_may_retain_has_a_budget(task, tmp_path):
    """A head of 10 outputs with 8 weights and a bias each, for 4 clients and 2 of each of 21 rounds."""
    most = (4 + 2 * 21) * 4 * 10 * 9
    with pytest.raises(
        UserError, match=rf"client_state_bytes={most - 1} is less than the {most:,} bytes that 4 clients"
    ):
        trainer(task, tmp_path / "run", rounds=2, client_state_bytes=most - 1).fit()
    assert not list((tmp_path / "run").glob("*.json"))
    values = {"data.split": "within_client", "run.client_state_bytes": most}
    assert "run.client_state_bytes" in problem({k: v for k, v in values.items() if k != "data.split"})
    for retaining in ({"model.personal": "head"}, {"algorithm.name": "scaffold"}, {"compression.upload": "top_k"}):
        check(resolve(RunConfig.of({"data.dataset": "digits", **values, **retaining})))


def test_clients_are_evaluated_with_weights_of_their_own(trained, task, tmp_path):
    evaluated = trained.evaluate("test")
    assert evaluated.overall["accuracy"] == pytest.approx(trained.history["eval/accuracy"].iloc[-1])
    nobodys = tmp_path / "run"
    shutil.copytree(trained.config.run.directory, nobodys)
    forget(nobodys)
    without = trainer(task, nobodys).evaluate("test")
    assert evaluated.overall["loss"] < without.overall["loss"] - 0.1
    assert list(evaluated.by_client.index) == list(task.task.test.client_ids)


def test_a_client_predicts_with_its_own_head(trained, task):
    run = read_run(trained.config.run.directory)
    images = list(np.random.default_rng(0).uniform(size=[2, 1, 8, 8]).astype(np.float32))
    first, second = (trained.predict(images, client=c) for c in task.task.train.client_ids[:2])
    nobody = trained.predict(images)
    assert first != second != nobody != first
    put = stored_weights(run.directory, task.task.model.positions(run.facts["personal"]))
    weights = [*task.task.model.initial_weights[0], *task.task.model.initial_weights[1]]
    changed = [i for i, (w, o) in enumerate(zip(weights, put(weights, task.task.train.client_ids[0]))) if w is not o]
    assert tuple(changed) == put.positions
    assert len(changed) == 2  # kernel and bias
    with pytest.raises(UserError, match="has no such client; name one of"):
        trained.predict(images, client="nobody")


def test_a_client_whose_work_left_nothing_predicts_as_it_is_evaluated(trained, task, tmp_path):
    """With the weights that clients begin with, as `predict` without a client."""
    nobodys = tmp_path / "run"
    shutil.copytree(trained.config.run.directory, nobodys)
    forget(nobodys)
    images = list(np.random.default_rng(0).uniform(size=[2, 1, 8, 8]).astype(np.float32))
    without = trainer(task, nobodys)
    assert without.predict(images, client=task.task.train.client_ids[0]) == without.predict(images)


def test_own_weights_that_are_gone_are_a_sentence(trained, task, tmp_path):
    """Clients would silently be evaluated, and predict, with older weights or with those that all begin with."""
    images, client = [np.zeros([1, 8, 8], np.float32)], task.task.train.client_ids[0]
    shutil.copytree(trained.config.run.directory, tmp_path / "run")
    damaged = trainer(task, tmp_path / "run")
    assert damaged.predict(images, client=client) == trained.predict(images, client=client)
    max((tmp_path / "run" / "personal").glob("*/round_4")).unlink()
    for call in (lambda: damaged.evaluate("test"), lambda: damaged.predict(images, client=client)):
        with pytest.raises(UserError, match="run/personal is not as it was after round 4, .* restore it"):
            call()


def test_own_weights_of_a_run_that_went_on_are_a_sentence(trained, task, tmp_path):
    """Killed before the next checkpoint, it has the shared model of its earlier end."""
    shutil.copytree(trained.config.run.directory, tmp_path / "run")
    shutil.copy(client := max((tmp_path / "run" / "personal").glob("*/round_4")), client.with_name("round_5"))
    with pytest.raises(UserError, match="not as it was after round 4, .* let it end"):
        trainer(task, tmp_path / "run").evaluate("test")


@pytest.mark.slow
def test_own_weights_of_a_run_that_saved_a_later_state_are_a_sentence(trained, task, tmp_path):
    """Stopped after a checkpoint, they are those of its newest state, and the shared model is of the earlier end."""
    shutil.copytree(trained.config.run.directory, tmp_path / "run")
    further = trainer(task, tmp_path / "run", rounds=6)
    further.advance(5)
    with pytest.raises(UserError, match="not as it was after round 4, .* let it end"):
        further.evaluate("test")
    further.fit()
    assert further.evaluate("test")


def test_a_clients_model_is_exported_for_transformers(trained, task):
    run, client = read_run(trained.config.run.directory), task.task.train.client_ids[0]
    path, _ = export_run(run, "pretrained", client=client)
    assert path.endswith(f"clients/{client}/pretrained")
    assert not os.path.exists(os.path.join(path, "README.md"))
    images = np.random.default_rng(0).uniform(size=[2, 1, 8, 8]).astype(np.float32)
    logits = transformers.TFAutoModelForImageClassification.from_pretrained(path)(images, training=False).logits
    classes = logits.numpy().argmax(axis=1)
    names = {name: i for i, name in enumerate(task.task.label_names)}
    predicted = trained.predict(list(images), client=client)
    assert [names[p["label"]] for p in predicted] == list(classes)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_personal_weights(trained, task, tmp_path):
    trainer(task, tmp_path).fit(rounds=2)
    trainer(task, tmp_path).fit(rounds=4)
    directory = type(tmp_path)(trained.config.run.directory)
    newest = {client: max(directory.glob(f"personal/{client}/*")).read_bytes() for client in dict(own(directory))}
    for client, weights in newest.items():
        assert max(tmp_path.glob(f"personal/{client}/*")).read_bytes() == weights


@pytest.mark.slow
def test_privacy_counts_shared_weights_alone(trained, task, tmp_path):
    """Noise that drowns the shared weights leaves clients their own, and is not in what the server has of them."""
    private = trainer(
        task, tmp_path, privacy=ft.DPFedAvg(noise_multiplier=1.0, clip_norm=1e-3), sampling="poisson", label_names=()
    )
    private.fit(rounds=2)
    begun = task.task.model.initial_weights[1][-2:]
    model = private._assembly.task.model
    assert all(np.array_equal(a, b) for a, b in zip(begun, model.initial_weights[1][-2:]))
    assert private.privacy.figures(2)["privacy/epsilon"] > 0
    assert "`personal/` and `clients/`: weights of single clients" in (tmp_path / "report.md").read_text()
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 2


@pytest.mark.parametrize(
    ("algorithm", "sentence"),
    [("fed_avg", "learns no more of a single example"), ("fed_babu", "without noise, where they are needed")],
)
def test_the_statement_says_what_own_models_reveal(algorithm, sentence):
    private = {"example_privacy.clip_norm": 1.0, "example_privacy.noise_multiplier": 1.0, "algorithm.name": algorithm}
    config = resolve(RunConfig.of({**WITHIN, **private}))
    check(config.replace({"data.label_names": tuple("0123456789")}))
    (text,) = build_client_side_ledgers(config, [100]).statements(3).values()
    assert sentence in text
    (text,) = build_client_side_ledgers(config.replace({"model.personal": None}), [100]).statements(3).values()
    assert sentence not in text


WITHIN = {"data.dataset": "digits", "data.split": "within_client", "model.personal": "head"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data.split": "client"}, "model.personal=head needs data.split=within_client or time"),
        ({"algorithm.name": "fed_sgd"}, "its clients do not train one model"),
        ({"algorithm.name": "fed_gkd"}, "combined with algorithm.name=fed_gkd: the global model lacks a client's own"),
        ({"algorithm.distillation_weight": 0.1}, "combined with algorithm.distillation_weight=0.1: the global model"),
        ({"run.keep_best": True, "data.validation_fraction": 0.2}, "own weights are those of the last round"),
        ({"engine.name": "tff_native"}, "personal weights belong to the clients"),
        ({"model.trainable": "lora", "model.personal": "norms"}, "set model.personal=head"),
        ({"model.personal": None, "algorithm.name": "fed_rep"}, "without personal weights it is fed_avg"),
        ({"algorithm.personal_epochs": 2}, "algorithm.personal_epochs=2 has no effect with algorithm.name=fed_avg"),
        ({"run.keep_updates": True}, "contributions are judged by the global model"),
        ({"model.personal": None, "algorithm.name": "fed_recon"}, "without personal weights it is fed_avg"),
        ({"algorithm.name": "fed_babu", "model.trainable": "lora"}, "into which adapters are merged"),
    ],
)
def test_rules(values, sentence):
    check(resolve(RunConfig.of(WITHIN)))
    check(resolve(RunConfig.of({**WITHIN, "algorithm.name": "fed_babu", "data.split": "client"})))
    assert sentence in problem({**WITHIN, **values})
