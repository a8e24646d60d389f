"""Several labels a text: from any way to write them to the metrics, the thresholds and the prediction."""

import json

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tensorflow_federated as tff
import transformers

import tff_tx as ft
from tff_tx import datasets, models
from tff_tx.config import RunConfig, check
from tff_tx.core.errors import UserError

ROWS = [("a", ["joy", "fear"]), ("b", []), ("c", ["joy"])]
WRITTEN = {
    "x.jsonl": ("".join(json.dumps({"text": t, "label": names}) + "\n" for t, names in ROWS), {}),
    "x.csv": ("text,label\na,joy; fear\nb,\nc,joy\n", {"label_separator": ";"}),
    "y.csv": ("text,joy,fear\na,1,1\nb,0,0\nc,1,0\n", {"label_columns": ("joy", "fear")}),
    "z.csv": ("text,label\na,\"['joy', 'fear']\"\nb,[]\nc,['joy']\n", {}),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_labels_are_read_however_they_are_written(name, tmp_path):
    content, settings = WRITTEN[name]
    (tmp_path / name).write_text(content)
    spec = datasets.DataSpec("file", files=(str(tmp_path / name),), cache_dir=str(tmp_path), **settings)
    (chunk,) = datasets.read_records(spec, "text", "labels")
    assert list(zip(chunk["text"], chunk["labels"])) == ROWS
    assert datasets.survey(spec).label_names == ("fear", "joy")


def test_a_column_of_something_else_than_0_and_1_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("text,joy\na,1\nb,2\n")
    spec = datasets.DataSpec("file", files=(str(tmp_path / "x.csv"),), label_columns=("joy",), cache_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"x.csv, line 3: the column 'joy' has '2', which is no 0 or 1"):
        list(datasets.read_records(spec, "labels"))


def evaluated(objective, labels, logits):
    initialize, update, finalize = objective.metrics_fns
    state = initialize()
    for y, found in zip(np.split(labels, 4), np.split(logits, 4)):
        output = tff.learning.models.BatchOutput(objective.loss_fn(tf.constant(found), y), tf.constant(found), None)
        state = update(state, tf.constant(y), output)
    return state, {name: float(value) for name, value in finalize(state).items()}


def test_metrics_and_thresholds_are_those_of_the_pooled_data():
    generator = np.random.default_rng(0)
    labels = (generator.random((40, 3)) < [0.5, 0.2, 0.05]).astype(np.int32)
    logits = (generator.normal(size=labels.shape) + 2 * labels - [0, 2, 3]).astype(np.float32)
    state, metrics = evaluated(models.multi_label("x", 3), labels, logits)
    for average in ("micro", "macro"):
        expected = sklearn.metrics.f1_score(labels, logits >= 0, average=average, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    assert metrics["exact_match"] == pytest.approx(sklearn.metrics.accuracy_score(labels, logits >= 0))
    expected = tf.nn.sigmoid_cross_entropy_with_logits(labels.astype(np.float32), logits).numpy().mean()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    chosen = models.multi_label("x", 3).choose(state)["thresholds"]
    probabilities, grid = tf.sigmoid(logits).numpy(), np.arange(1, 20) / 20
    for label, threshold in enumerate(chosen):
        f1 = [sklearn.metrics.f1_score(labels[:, label], probabilities[:, label] >= cut) for cut in grid]
        assert f1[round(threshold * 20) - 1] == max(f1)
    assert chosen != [0.5] * 3
    _, better = evaluated(models.multi_label("x", 3, chosen), labels, logits)
    assert better["macro_f1"] > metrics["macro_f1"]


def test_a_private_run_chooses_no_thresholds_by_its_clients_records():
    config = RunConfig().replace(
        {
            "task.kind": "multi_label_classification",
            "data.dataset": "file",
            "data.files": ("x.csv",),
            "data.label_names": ("a", "b"),
            "data.split": "within_client",
            "data.validation_fraction": 0.1,
            "data.test_fraction": 0.0,
            "privacy.mechanism": "gaussian",
            "privacy.noise_multiplier": 1.0,
        }
    )
    with pytest.raises(UserError, match="a private run cannot find out thresholds of labels"):
        check(config)


@pytest.mark.slow
def test_a_trained_model_has_thresholds_which_prediction_and_evaluation_use(tmp_path, cache_dir):
    lines = [json.dumps({"text": "ab"[n % 2] * 8, "label": ["x"] if n % 2 else ["x", "y"]}) for n in range(24)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    config = RunConfig().replace(
        {
            "task.kind": "multi_label_classification",
            "data.dataset": "file",
            "data.files": (str(tmp_path / "x.jsonl"),),
            "data.num_clients": 2,
            "data.validation_fraction": 8.0,
            "data.test_fraction": 4.0,
            "data.cache_dir": str(cache_dir),
            "model.architecture": "bert",
            "model.tokenizer": "bytes",
            "model.config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
            "cohort.clients_per_round": 2,
            "run.rounds": 1,
            "run.directory": str(tmp_path / "run"),
        }
    )
    trainer = ft.Trainer.from_config(config, progress=False)
    trainer.fit()
    written = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert written["problem_type"] == "multi_label_classification"
    assert [len(written["thresholds"]), written["id2label"]] == [2, {"0": "x", "1": "y"}]
    (found,) = trainer.predict(["aaaaaaaa"])
    cuts = dict(zip("xy", written["thresholds"]))
    assert found["labels"] == [name for name in "xy" if found["probabilities"][name] >= cuts[name]]
    assert trainer.evaluate("validation").overall["macro_f1"] > 0
    how = {"framework": "tf", "device": -1, "torch_dtype": None}  # transformers 4.53 looks the last up in torch
    pipe = transformers.pipeline("text-classification", model=str(tmp_path / "run" / "model"), top_k=None, **how)
    (scores,) = pipe(["aaaaaaaa"])
    assert {score["label"]: score["score"] for score in scores} == pytest.approx(found["probabilities"], abs=1e-4)
