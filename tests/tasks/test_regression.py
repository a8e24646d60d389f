"""Numbers as labels: the metrics are those over the pooled data, and training, evaluation and prediction agree."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow_federated as tff

from tff_tx import datasets, inference, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.run.evaluation import Evaluator

BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def create(cache_dir, path):
    table = pd.DataFrame({"a": [f"text {n}" for n in range(20)], "b": ["other"] * 20})
    table.assign(score=np.arange(20) / 4).to_csv(path, index=False)
    data = datasets.DataSpec(
        "file",
        files=(str(path),),
        num_clients=3,
        text_column=("a", "b"),
        label_column="score",
        test_fraction=0.0,
        cache_dir=cache_dir,
    )
    model = tasks.ModelSpec(architecture="bert", config={**BERT, "initializer_range": 1.0}, tokenizer="bytes")
    return data, model, tasks.create_task("sequence_regression", data, model, ClientConfig(), progress=False)


def test_metrics_are_those_of_the_pooled_data(cache_dir, tmp_path):
    """Over all clients, whatever their batches; and predictions are those that were evaluated."""
    data, model, task = create(cache_dir, tmp_path / "x.csv")
    initialize, update, finalize = task.model.objective.metrics_fns
    state, found, labels = initialize(), [], []
    weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
    for client in task.train.client_ids:
        for x, y in task.eval_batches_fn(task.train)(client):
            predictions = task.model.predict_on_batch(weights, x, training=False)
            loss = task.model.objective.loss_fn(predictions, y)
            state = update(state, y, tff.learning.models.BatchOutput(loss, predictions, None))
            found.extend(predictions[:, 0].numpy())
            labels.extend(y.numpy())
    metrics = {name: float(value) for name, value in finalize(state).items()}
    errors = np.array(found) - np.array(labels)
    assert metrics["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    assert metrics["pearson"] == pytest.approx(scipy.stats.pearsonr(found, labels)[0], abs=1e-5)
    outputs, evaluator = {}, Evaluator(task.model, task.eval_batches_fn(task.train))
    evaluator.evaluate(weights, task.train.client_ids, outputs=outputs)
    batches = [batch for client_id in task.train.client_ids for batch in outputs[client_id]]
    pooled = (np.concatenate(parts) for parts in zip(*batches))
    assert task.model.objective.pooled_fn(*pooled) == {
        "spearman": pytest.approx(scipy.stats.spearmanr(found, labels)[0])
    }
    constant = task.model.objective.pooled_fn(predictions[:2].numpy(), np.ones(2))
    assert constant == {"spearman": 0.0}
    one = update(initialize(), y[:1], tff.learning.models.BatchOutput(loss, predictions[:1], None))
    assert float(finalize(one)["pearson"]) == 0, "of one example there is none"
    predictor = inference.build_predictor(
        "sequence_regression", task.model.keras_model, model, data=data, tokenizer=task.tokenizer
    )
    rows = list(predictor.predict(predictor.read(files=[str(tmp_path / "x.csv")])))
    by_label = dict(zip(labels, found))
    assert [row["value"] for row in rows] == pytest.approx([by_label[n / 4] for n in range(20)], abs=1e-4)


@pytest.mark.parametrize("label", ["many", "inf", "1e39"])
def test_a_label_that_is_no_number_is_refused(label, cache_dir, tmp_path):
    (tmp_path / "y.csv").write_text(f"text,label\na,1.5\nb,{label}\n")
    data = datasets.DataSpec("file", files=(str(tmp_path / "y.csv"),), num_clients=1, cache_dir=cache_dir)
    model = tasks.ModelSpec(architecture="bert", config=BERT, tokenizer="bytes")
    with pytest.raises(UserError, match=r"y\.csv, line 3: the label '.*' is no finite number of 32 bits"):
        tasks.create_task("sequence_regression", data, model, ClientConfig(), progress=False)


def test_labels_of_two_notations_are_refused(cache_dir, tmp_path):
    (tmp_path / "y.csv").write_text("text;label\na;1.234\nb;3,5\n")
    data = datasets.DataSpec("file", files=(str(tmp_path / "y.csv"),), num_clients=1, cache_dir=cache_dir)
    model = tasks.ModelSpec(architecture="bert", config=BERT, tokenizer="bytes")
    with pytest.raises(UserError, match=r"y\.csv, line 2: the column 'label' has '1\.234', whose point may group"):
        tasks.create_task("sequence_regression", data, model, ClientConfig(), progress=False)
