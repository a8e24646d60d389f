"""A task from outside of the package, in one place and with one line that registers it: the score of a sentence."""

import collections
import inspect

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import algorithms, datasets, models, runtime, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.config.registries import TASKS
from tff_tx.tasks.recipe import PADDING


# The plug-in begins.
class Scores(datasets.SequenceClassificationEncoder):
    kind = "sentence_regression"

    def _encode_rows(self, rows):
        for ids, score in zip(self._tokenize.whole(rows["text"].tolist(), self._max_length), rows["label"]):
            yield [{"input_ids": ids, "label": np.float32(score)}]


class Batches(tasks.TextRecipe):
    pads = {"input_ids": PADDING, "label": 0.0}

    def batch(self, features, seed):
        return self.tokens(features["input_ids"]), features["label"]


def squared_error(output, label, sample_weight=None):
    return tf.reduce_mean(tf.square(output[:, 0] - label))


def sums(output, label, loss):
    number = tf.shape(label, tf.int64)[0]
    return collections.OrderedDict(loss=loss * tf.cast(number, tf.float32), num_examples=number, num_items=number)


def mean(found):
    return {**found, "loss": found["loss"] / tf.cast(found["num_items"], tf.float32)}


class SentenceRegression(tasks.TextTask):
    name, title = "sentence_regression", "Scores of sentences"
    auto_class = "TFAutoModelForSequenceClassification"
    recipe_class = Batches

    def encoder(self, facts):
        encoder = Scores(facts.tokenizer, (), facts.model.max_length)
        encoder.element_spec["label"] = tf.TensorSpec([])
        return encoder

    def config_changes(self, facts):
        return {"num_labels": 1}

    def objective(self, label_names, model):
        specs = {"label_spec": tf.TensorSpec([None]), "output_spec": tf.TensorSpec([None, 1])}
        return models.Objective(self.name, **specs, loss_fn=squared_error, sums_fn=sums, finalize_fn=mean)


# The plug-in ends.
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SOURCES = (Scores, Batches, squared_error, sums, mean, SentenceRegression)


@pytest.fixture(scope="module")
def registered():
    """The plug-in's one line."""
    TASKS.register("sentence_regression")(SentenceRegression())
    yield
    TASKS._entries.pop("sentence_regression")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Sentences whose score is their share of good words."""
    rng, directory = np.random.default_rng(0), tmp_path_factory.mktemp("scored")
    sentences = [rng.choice(["good", "bad"], 4) for _ in range(48)]
    lines = [f"{n % 4},{' '.join(words)},{np.mean(words == 'good')}" for n, words in enumerate(sentences)]
    (directory / "x.csv").write_text("\n".join(["client,text,label", *lines]) + "\n")
    tiny.words_tokenizer(["good", "bad"]).save_pretrained(directory / "words")
    return directory


def test_a_plug_in_is_short():
    assert sum(len(inspect.getsource(part).splitlines()) for part in SOURCES) <= 40


@pytest.mark.parametrize("bucketed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_task_from_outside_trains(bucketed, registered, scored, cache_dir):
    data = datasets.DataSpec("file", files=(str(scored / "x.csv"),), client_column="client", cache_dir=cache_dir)
    model = tasks.ModelSpec(architecture="bert", config=BERT, tokenizer=str(scored / "words"), max_length=8)
    local = ClientConfig(batch_size=4, epochs=2, bucket_by_length=bucketed)
    task = tasks.create_task("sentence_regression", data, model, local, progress=False)
    assert task.definition is TASKS["sentence_regression"]
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("adam", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=0.02,
    )
    losses = []
    with runtime.LocalEngine(task.process(algorithms.build_fed_avg(task.model, options))) as engine:
        state = engine.initialize()
        for round_num in (1, 2):
            output = engine.run_round(state, tasks.client_arguments(task.train.client_ids, 1, round_num))
            state = output.state
            losses.append(float(tf.nest.flatten(output.metrics["client_work"]["train"]["loss"])[0]))
    assert 0 < losses[1] < losses[0]


def test_a_name_can_be_taken_once(registered):
    with pytest.raises(ValueError, match="already"):
        TASKS.register("causal_lm")
