"""A notebook's way through a run: load, compose, fit, resume, go on, evaluate, predict, save."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import tensorflow_federated as tff
import transformers

import tff_tx as ft
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory
from tff_tx.run import reporting
from tff_tx.run.assemble import tasks as task_parts

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def task(cache_dir):
    return ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(6, alpha=1.0), test=100),
        model=ft.Model(config=TINY),
        cache_dir=cache_dir,
    )


def trainer(task, run_dir, **parts):
    chosen = {"algorithm": ft.FedAvg(client=ft.Adam(1e-3), steps=2), "clients_per_round": 2, "progress": False}
    return ft.Trainer(task, run_dir=str(run_dir), **{**chosen, **parts})


def figures(directory):
    table = pd.read_csv(directory / "metrics.csv", dtype=str)
    return table[[column for column in table if not column.startswith("time/")]]


def model_bytes(directory):
    return (directory / "model" / "model.safetensors").read_bytes()


class Norm(ft.Callback):
    """A column of its own, and the evaluations that it has seen."""

    def __init__(self):
        self.seen = []

    def on_round_end(self, result):
        result.row["own/norm"] = sum(float((w**2).sum()) for w in result.weights().trainable)

    def on_evaluation(self, result):
        self.seen.append((result.round_num, result.evaluation["loss"]))


@pytest.fixture(scope="module")
def begun(compiled_once, task, tmp_path_factory):
    """A run of three rounds with a callback."""
    directory, norm = tmp_path_factory.mktemp("begun"), Norm()
    return norm, trainer(task, directory, callbacks=[norm], rounds_per_evaluation=2).fit(rounds=3), directory


@pytest.fixture(scope="module")
def straight(compiled_once, task, tmp_path_factory):
    """A run of five rounds."""
    directory = tmp_path_factory.mktemp("straight")
    found = trainer(task, directory, rounds_per_evaluation=2)
    return found, found.fit(rounds=5), directory


def test_fit_gives_a_row_a_round(straight):
    _, history, _ = straight
    assert history["round_num"].tolist() == [1, 2, 3, 4, 5]
    assert history["eval/loss"].notna().tolist() == [False, True, False, True, True]


def test_a_model_that_knows_no_more_than_the_frequencies_of_the_labels_is_doubted(straight):
    found, _, directory = straight
    test = found._assembly.task.test
    labels = np.concatenate([[int(e["label"]) for e in test.create_tf_dataset_for_client(c)] for c in test.client_ids])
    shares = np.bincount(labels) / len(labels)
    constant = sklearn.metrics.log_loss(labels, np.tile(shares, [len(labels), 1]))
    assert found._assembly.doubts({"test": {"loss": 0.98 * constant}}) == []
    assert found._assembly.doubts({"test": {"loss": 2 * constant, "accuracy": shares.max() + 0.01}}) == []
    (doubt,) = found._assembly.doubts({"test": {"loss": float("nan"), "accuracy": shares.max()}})
    assert f"that of a constant prediction {constant:.4g}" in doubt
    assert "learning rate, 0.001, may be too high or too low for the trained weights (all)" in doubt
    assert "The model has not learned: on test" in (directory / "report.md").read_text()


def test_the_last_weights_are_evaluated_once(straight, monkeypatch):
    found, _, _ = straight
    evaluator = found._assembly.evaluators()["test"]
    ids = found._assembly.task.test.client_ids
    weights = tff.learning.models.ModelWeights(*found._assembly.task.model.initial_weights)
    first = evaluator.metrics(weights, ids[::-1])
    reader, zero, step = evaluator._graphs
    read = []
    monkeypatch.setitem(vars(evaluator), "_graphs", (lambda c: read.append(c) or reader(c), zero, step))
    again, by_client = evaluator.evaluate(weights, ids)
    assert again == pytest.approx(first)
    assert len(by_client) == len(ids)
    assert evaluator.label_counts(ids).sum() == first["num_examples"]
    assert read == [], "nothing is read a second time"
    other = tff.learning.models.ModelWeights([2 * w for w in weights.trainable], weights.non_trainable)
    assert evaluator.metrics(other, ids) != again
    assert sorted(read) == sorted(ids)


def test_the_report_shows_the_held_out_clients_and_what_is_confused(straight):
    found, _, directory = straight
    report = (directory / "report.md").read_text()
    section = report[report.index("## Clients of test") :].split("\n## ")[0]
    for name in ("test_clients.png", "test_confusion.png"):
        assert f"(plots/{name})" in section
        assert (directory / "plots" / name).exists()
    assembly = found._assembly
    evaluator, test = assembly.evaluators()["test"], assembly.task.test
    weights = tff.learning.models.ModelWeights(*assembly.task.model.initial_weights)
    by_client, confusion = evaluator.details(weights, test.client_ids)
    outputs = {}
    evaluator.evaluate(weights, test.client_ids, outputs=outputs)
    batches = [batch for client_id in test.client_ids for batch in outputs[client_id]]
    logits, labels = (np.concatenate(parts) for parts in zip(*batches))
    expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=range(10))
    np.testing.assert_array_equal(confusion, expected)
    assert by_client["num_examples"].sum() == confusion.sum()


def test_the_report_begins_with_the_settings_that_were_chosen(straight):
    report = (straight[2] / "report.md").read_text()
    settings = report[report.index("## Settings") : report.index("## Results")]
    assert "| run.rounds | 5 | 30 |" in settings
    assert "server.optimizer" not in settings


def test_fit_again_changes_nothing(straight):
    """What other programs have added to the report is there still."""
    found, history, directory = straight
    reporting.add_section(str(directory), "Audit", "AUC 0.5")
    before = [model_bytes(directory), *((directory / f"report.{kind}").read_text() for kind in ("md", "html"))]
    pd.testing.assert_frame_equal(found.fit(rounds=5), history)
    after = [model_bytes(directory), *((directory / f"report.{kind}").read_text() for kind in ("md", "html"))]
    assert after == before
    assert after[1].endswith("\n\n## Audit\n\nOf the model after round 5.\n\nAUC 0.5\n")


@pytest.mark.slow
def test_more_rounds_equal_a_straight_run(task, begun, straight, tmp_path):
    shutil.copytree(begun[2], tmp_path, dirs_exist_ok=True)
    assert figures(tmp_path)["eval/loss"].notna().tolist() == [False, True, True]
    reporting.add_section(str(tmp_path), "Audit", "AUC 0.5")
    trainer(task, tmp_path, callbacks=[Norm()], rounds_per_evaluation=2).fit(rounds=5)
    assert "## Audit\n\nOf the model after round 3.\n" in (tmp_path / "report.md").read_text()
    pd.testing.assert_frame_equal(figures(tmp_path).drop(columns="own/norm"), figures(straight[2]))
    assert model_bytes(tmp_path) == model_bytes(straight[2])


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [None, "cosine"])
def test_a_run_of_more_rounds_has_the_process_of_the_one_before_where_it_may(task, tmp_path, schedule, monkeypatch):
    """Making it takes longer than short runs; a schedule depends on the number of rounds."""
    found = trainer(task, tmp_path, algorithm=ft.FedAvg(client=ft.Adam(1e-3, schedule=schedule), steps=2), rounds=1)
    process = found.process
    monkeypatch.setattr(ft.Trainer, "_fit", lambda self: None)
    found.fit(rounds=2)
    assert (found.process is process) == (schedule is None)


def test_more_rounds_are_rejected_where_a_schedule_depends_on_them(task, tmp_path):
    begun = trainer(task, tmp_path, algorithm=ft.FedAvg(client=ft.Adam(1e-3, schedule="cosine"), steps=2), rounds=1)
    run_directory.write_config(str(tmp_path), begun.config, {})
    with pytest.raises(UserError, match=r"run.rounds was 1, is 2, and client.schedule=cosine depends on it"):
        begun.fit(rounds=2)


def test_a_resume_notices_other_data(tmp_path):
    """A label's name, a text, or as many rows as before with another owner: each is other data, and a copy is not."""

    def prints(*rows):
        (tmp_path / "data.csv").write_text("\n".join(("client,text,label", *rows)))
        loaded = ft.load_task(
            "sequence_classification",
            data=ft.Data(tmp_path / "data.csv", client_column="client", text_column="text", label_column="label"),
            model=ft.Model(architecture="bert", config=TINY, tokenizer="bytes"),
            max_length=8,
            cache_dir=str(tmp_path / "cache"),
        )
        return task_parts.facts(loaded.task, {"train": loaded.task.train})["fingerprints"]

    first = prints("a,one,bad", "b,two,good")
    assert prints("a,one,bad", "b,two,good") == first
    for rows in (("a,one,good", "b,two,zzz"), ("a,one,bad", "b,three,good"), ("b,one,bad", "a,two,good")):
        assert prints(*rows)["train data"] != first["train data"]


def test_evaluate_predict_and_save(straight, tmp_path):
    found, _, directory = straight
    evaluation = found.evaluate("test")
    results = pd.read_json(directory / "results.json")["test"]
    assert evaluation.overall["loss"] == pytest.approx(results["loss"], rel=1e-5)
    assert evaluation.by_client["num_examples"].sum() == 100
    assert "accuracy" in str(evaluation)
    saved = found.save(tmp_path / "model")
    model = transformers.TFAutoModelForImageClassification.from_pretrained(saved)
    pixels = np.random.default_rng(0).random([8, 8]).astype(np.float32)
    (prediction,) = found.predict([pixels[np.newaxis]])
    assert prediction["label"] == str(np.argmax(model(pixels[np.newaxis, np.newaxis]).logits))


@pytest.mark.slow
def test_parts_compose(task, tmp_path):
    found = trainer(
        task,
        tmp_path,
        algorithm=ft.FedProx(mu=0.2, client=ft.SGD(0.1, momentum=0.9), steps=2, batch_size=8),
        aggregation=ft.stack(ft.zero("adaptive"), ft.clip(1.0), ft.compress("uniform8"), ft.mean()),
        attack=ft.Attack("sign_flip", share=0.5),
        devices=ft.Devices(dropout_rate=0.1),
    )
    config = found.config
    assert (config.algorithm.name, config.algorithm.proximal_strength, config.client.momentum) == ("fed_prox", 0.2, 0.9)
    assert (config.aggregation.clip_norm, config.compression.upload) == ("1.0", "uniform8")
    history = found.fit(rounds=1)
    assert np.isfinite(history["train/loss"]).all()


@pytest.mark.slow
def test_any_factory_aggregates(task, tmp_path):
    zero = tff.aggregators.UnweightedMeanFactory()
    history = trainer(task, tmp_path, aggregation=zero).fit(rounds=1)
    assert len(history) == 1


def test_privacy_is_known_before_training(task, tmp_path):
    found = trainer(task, tmp_path, privacy=ft.DPFedAvg(target_epsilon=4.0, population=10_000, clip_norm=0.5))
    assert found.config.cohort.sampling == "poisson"
    assert found.privacy.ledger.epsilon(found.config.run.rounds) == pytest.approx(4.0, rel=1e-2)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_early_stopping_and_the_best_model(task, tmp_path):
    """Steps that are far too long: an early evaluation is the best."""
    found = trainer(
        task,
        tmp_path,
        algorithm=ft.FedAvg(client=ft.SGD(10.0, clip_norm=1.0), steps=4),
        rounds_per_evaluation=1,
        patience=2,
        keep_best=True,
    )
    history = found.fit(rounds=20)
    losses = history["eval/loss"]
    best = losses.idxmin()
    assert len(history) == best + 1 + 2
    clients = found.evaluate("test")
    assert clients.overall["loss"] == pytest.approx(losses[best], rel=1e-4)
    pd.testing.assert_frame_equal(found.fit(rounds=20), history)


def test_names_of_labels_are_text_in_the_report(begun, tmp_path):
    shutil.copytree(begun[2], tmp_path, dirs_exist_ok=True)
    run = run_directory.read_run(str(tmp_path))
    run = dataclasses.replace(run, facts={**run.facts, "notes": ["labels: <script>, [x](http://y), \n## Results"]})
    report = pathlib.Path(reporting.write_report(run, {}, ())).read_text()
    assert "<script>" not in report
    assert "[x](" not in report
    assert report.count("\n## Results") == 1


def test_callbacks_see_rounds_and_may_add_columns(begun):
    norm, history, _ = begun
    assert (history["own/norm"] > 0).all()
    assert [n for n, _ in norm.seen] == [2, 3]
    assert [loss for _, loss in norm.seen] == pytest.approx(history["eval/loss"][1:].tolist())


def test_parts_may_be_none(task, tmp_path):
    found = trainer(task, tmp_path, privacy=None, attack=None, devices=None)
    assert found.privacy is None


def test_files_may_be_paths(tmp_path):
    assert ft.Data([tmp_path / "a.csv", "b.csv"])["data.files"] == (str(tmp_path / "a.csv"), "b.csv")
    assert ft.Data(tmp_path / "a.csv")["data.dataset"] == "file"
    for value in (pd.DataFrame({"text": ["a"]}), [pd.DataFrame()], 3, {"text": ["a"]}):
        with pytest.raises(UserError, match=r"data.files: a \w+ is no file, nor a list of them: write it to one"):
            ft.Data(value)
    assert ft.Data("x.csv", test=pd.DataFrame({"text": ["a"]}).shape[0])["data.test_fraction"] == 1


def test_a_mistake_of_sampling_leaves_nothing(task, tmp_path):
    with pytest.raises(UserError, match="clients_per_round=99 is more than the 6 training clients"):
        trainer(task, tmp_path / "run", clients_per_round=99).fit(rounds=1)
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_writes_is_left_alone(task, straight):
    _, _, directory = straight
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    with run_directory.writing(str(directory)), pytest.raises(UserError, match="is being written by process"):
        trainer(task, directory, rounds_per_evaluation=2).fit(rounds=6)
    after = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert {path.name for path in after if before[path] != after[path]} <= {".lock"}


def test_a_run_does_not_become_shorter(task, straight):
    found, history, directory = straight
    with pytest.raises(UserError, match="run.rounds=3: 5 rounds have been run"):
        trainer(task, directory, rounds_per_evaluation=2).fit(rounds=3)
    pd.testing.assert_frame_equal(found.history, history)


def test_saving_overwrites_nothing_else(straight, tmp_path):
    (tmp_path / "precious.txt").write_text("text")
    with pytest.raises(UserError, match="is a directory with other files"):
        straight[0].save(tmp_path)
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"seed": 7}, "run.seed=7: the task was loaded with 1; set it in load_task"),
        ({"num_clients": 3}, "data.num_clients=3: the task was loaded with 6"),
        ({"trainable": "head"}, "model.trainable=head: the task was loaded with all"),
    ],
)
def test_a_loaded_task_stays_as_it_is(task, tmp_path, parts, sentence):
    with pytest.raises(UserError) as caught:
        trainer(task, tmp_path, **parts)
    assert sentence in str(caught.value)


def test_a_factory_is_not_dropped_silently(task, tmp_path):
    factory = tff.aggregators.UnweightedMeanFactory()
    private = ft.DPFedAvg(noise_multiplier=1.0)
    with pytest.raises(UserError, match="privacy.mechanism=gaussian has an aggregation of its own"):
        trainer(task, tmp_path, aggregation=factory, privacy=private)


def test_what_is_monitored_is_checked_before_training(task, tmp_path):
    with pytest.raises(UserError, match="run.monitor=num_examples: must be one of loss, accuracy((?!num_).)*$"):
        trainer(task, tmp_path / "run", keep_best=True, monitor="num_examples").fit(rounds=1)
    assert not (tmp_path / "run").exists()


def test_as_flags_is_the_same_run(task, tmp_path):
    flags = trainer(task, tmp_path).as_flags()
    assert "--dataset=digits" in flags
    assert "--client_learning_rate=0.001" in flags
    assert f"--run_dir={tmp_path}" in flags


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"clients_per_rounds": 3}, "there is no setting 'clients_per_rounds'"),
        ({"min_separation": 3}, "cohort.min_separation=3 has no effect with cohort.sampling=uniform"),
        ({"algorithm": ft.Algorithm("fed_magic")}, "algorithm.name=fed_magic: must be one of"),
        ({"privacy": ft.DPFedAvg(), "clients_per_round": 2}, "set exactly one, the noise or the epsilon"),
    ],
)
def test_mistakes_are_found_at_once(task, tmp_path, parts, sentence):
    with pytest.raises(UserError) as caught:
        trainer(task, tmp_path / "run", **parts)
    assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_other_settings_in_the_same_directory_are_rejected(task, straight):
    _, _, directory = straight
    with pytest.raises(UserError, match="client.learning_rate was 0.001, is 0.01"):
        trainer(task, directory, client_learning_rate=0.01, rounds_per_evaluation=2).fit(rounds=5)
