"""Padding is no information: evaluation and prediction in batches of any size are a plain model's, a text at a time."""

import csv
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import transformers

from tff_tx import datasets, inference, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.run.evaluation import Evaluator
from tff_tx.tasks.create import create_task

TEXTS = ("a", "a text of some length", "two", "and a longer text, which others are padded to", "last one")
CONFIGS = {
    "bert": dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8),
    "gpt2": dict(n_embd=8, n_layer=1, n_head=2),
}
POSITIONS = {"bert": "max_position_embeddings", "gpt2": "n_positions"}


def saved_model(architecture, directory):
    """With the tokenizer of bytes, whose padding a checkpoint of GPT-2 says to be another token."""
    config = {**CONFIGS[architecture], POSITIONS[architecture]: 64, "vocab_size": 259, "initializer_range": 0.5}
    more = {"pad_token_id": 200} if architecture == "gpt2" else {}
    auto = tasks.task_kind("sequence_classification").auto_class
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    tokenizer = models.load_tokenizer("bytes")
    tokenizer.padding_side = "left"
    models.save_pretrained(models.from_config(auto, architecture, {**config, **more, **names}, 1), directory, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", CONFIGS)
def test_batches_of_any_size_are_a_plain_model(architecture, tmp_path):
    path = str(tmp_path / "model")
    saved_model(architecture, path)
    with open(tmp_path / "texts.csv", "w", newline="") as file:
        rows = [("text", "label"), *zip(TEXTS, ["no", "yes"] * 3)]
        csv.writer(file).writerows(rows)
    files = (str(tmp_path / "texts.csv"),)
    data = datasets.DataSpec("file", files=files, num_clients=1, test_fraction=0.0, cache_dir=str(tmp_path))
    spec = tasks.ModelSpec(pretrained=path, max_length=60)
    task = create_task("sequence_classification", data, spec, ClientConfig(), progress=False)
    plain = transformers.TFAutoModelForSequenceClassification.from_pretrained(path)
    tokenizer = models.load_tokenizer("bytes")
    expected = np.concatenate([plain(**tokenizer(text, return_tensors="tf")).logits for text in TEXTS])
    labels = tf.constant([0, 1, 0, 1, 0])
    loss = float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, expected)))
    weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
    trained = str(tmp_path / "trained")
    models.save_pretrained(task.model.keras_model, trained, task.tokenizer)
    for size in (1, 2, 5):
        clients = dataclasses.replace(task, eval_batch_size=size)
        found = Evaluator(task.model, clients.eval_batches_fn(task.train)).metrics(weights, task.train.client_ids)
        assert found["loss"] == pytest.approx(loss, abs=1e-5)
        predictor = inference.build_predictor("sequence_classification", trained, spec, batch_size=size)
        for logits, one in zip(tf.nn.softmax(expected).numpy(), predictor.predict(TEXTS), strict=True):
            assert one["probabilities"] == pytest.approx({"no": logits[0], "yes": logits[1]}, abs=1e-4)
