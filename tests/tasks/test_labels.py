"""A checkpoint that is a classifier already keeps the meaning of its outputs; weights that it lacks are said."""

import json

import numpy as np
import pytest
import tensorflow_federated as tff
from safetensors.numpy import load_file

from tff_tx import datasets, models, tasks
from tff_tx.config import RunConfig
from tff_tx.config.algorithm import ClientConfig
from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError
from tff_tx.run import scoring
from tff_tx.run.assemble.tasks import load_task
from tff_tx.tasks import create
from tff_tx.tasks.labels import as_found, as_trained

BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
NEWS = ("world", "sports", "business")
UNNAMED = ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("names", "outputs", "expected"),
    [
        (("business", "sports", "world"), NEWS, NEWS),
        (("sports",), NEWS, NEWS),
        (("SPORTS", "World"), NEWS, NEWS),
        (("a", "b", "c"), (), ("a", "b", "c")),
        (("0", "2"), UNNAMED, ("0", "1", "2")),
        (("LABEL_2", "LABEL_0"), UNNAMED, UNNAMED),
        (("b", "c", "a"), UNNAMED, ("b", "c", "a")),
        (("A", "a"), ("a", "A", "b"), ("a", "A", "b")),
    ],
)
def test_outputs_keep_their_meaning(names, outputs, expected):
    found = as_trained(names, outputs, False, "m")
    assert found.names == expected
    assert not found.are_new


@pytest.mark.parametrize("names", [("world", "sport"), ("World", "world"), ("a", "b", "c"), (*NEWS, "science")])
def test_labels_that_cannot_be_matched_are_refused(names):
    with pytest.raises(UserError, match="pretrained=m is a classifier of world, sports, business, which the labels "):
        as_trained(names, NEWS, False, "m")


def test_named_labels_make_new_outputs():
    found = as_trained(("a", "b", "c"), NEWS, True, "m")
    assert found == (("a", "b", "c"), True, found.note)
    assert "its outputs are made anew" in found.note


def test_the_order_of_unnamed_outputs_is_said():
    found = as_trained(NEWS, UNNAMED, False, "m")
    assert found.note.startswith("the outputs of m, LABEL_0 to LABEL_2, are taken for world, sports, business, in this")


@pytest.mark.parametrize(
    ("names", "rows", "sentence"),
    [
        (
            ["a"],
            8,
            r"all 8 records have the label 'a', and nothing can be learned: choose another data.label_column, or",
        ),
        ([f"id {n}" for n in range(30)], 30, "each of the 30 records has a label of its own, such as 'id 0'"),
        (
            [f"{n / 4}" for n in range(30)],
            99,
            "are 30 numbers from 0 to 7.25, and no classes: choose a task of regression",
        ),
    ],
)
def test_labels_that_are_no_classes_are_refused(names, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        as_found(names, rows)


def test_many_whole_numbers_are_questioned_and_classes_are_not():
    assert "the labels are 30 numbers from 0 to 29, and each is a class" in as_found(map(str, range(30)), 99).note
    assert "the labels are 3 numbers from 0 to 1, and each is a class" in as_found(["0", "0.5", "1"], 99).note
    for names in (["a", "b"], ["0.5", "1.5"], [f"intent {n}" for n in range(30)]):
        assert as_found(names, 99) == (tuple(names), False, "")


def test_a_column_of_one_label_is_refused(cache_dir, tmp_path):
    path = write(tmp_path / "x.csv", ["one", "two"], "aa")
    config = configuration(cache_dir, None, path).replace({"model.architecture": "bert", "model.tokenizer": "bytes"})
    with pytest.raises(UserError, match="all 2 records have the label 'a'"):
        load_task(config)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A model directory, and texts that it finds the three classes of in."""
    directory = str(tmp_path_factory.mktemp("classifier"))
    tokenizer = models.load_tokenizer("bytes")
    fields = {**BERT, "vocab_size": len(tokenizer), "pad_token_id": 0, "initializer_range": 2.0}
    fields |= {"id2label": dict(enumerate(NEWS)), "label2id": {name: i for i, name in enumerate(NEWS)}}
    model = models.from_config("TFAutoModelForSequenceClassification", "bert", fields)
    texts = [f"{'abc'[n % 3] * (n + 1)} {n * 7}" for n in range(24)]
    inputs = dict(tokenizer(texts, padding=True, return_tensors="tf"))
    model.classifier.bias.assign(-np.mean(model(inputs).logits, axis=0))
    classes = np.argmax(model(inputs).logits, axis=-1)
    assert set(classes) == {0, 1, 2}
    models.save_pretrained(model, directory, tokenizer)
    return directory, texts, classes


def write(path, texts, labels):
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(texts, labels)))
    return str(path)


def configuration(cache_dir, directory, path, **data):
    flat = {"data.dataset": "file", "data.files": (path,), "data.cache_dir": cache_dir, "data.num_clients": 3}
    flat |= {"task.kind": "sequence_classification", "model.pretrained": directory, "data.test_fraction": 0.0}
    return RunConfig().replace({**flat, **{f"data.{name}": value for name, value in data.items()}})


@pytest.mark.parametrize(
    ("keep", "spelled"), [((1, 2), str.upper), pytest.param((0, 1, 2), str, marks=pytest.mark.slow)]
)
def test_a_classifier_is_right_on_its_own_predictions(keep, spelled, classifier, cache_dir, tmp_path):
    """Whatever the order, the case and the number of the labels in the file."""
    directory, texts, classes = classifier
    rows = [(text, spelled(NEWS[c])) for text, c in zip(texts, classes) if c in keep]
    path = write(tmp_path / "x.csv", *zip(*rows))
    found = scoring.evaluate(configuration(cache_dir, directory, path), "train", progress=False)
    assert found.overall["accuracy"] == 1
    assert found.overall["num_examples"] == len(rows)


def test_random_outputs_are_not_evaluated(classifier, cache_dir, tmp_path):
    directory, texts, classes = classifier
    path = write(tmp_path / "x.csv", texts, np.array(["a", "b", "c"])[classes])
    with pytest.raises(UserError, match="is a classifier of world, sports, business, which the labels a, b, c"):
        scoring.evaluate(configuration(cache_dir, directory, path), "train", progress=False)
    with pytest.raises(UserError, match="nothing to evaluate but random numbers: new weights, .*classifier/kernel"):
        scoring.evaluate(
            configuration(cache_dir, directory, path, label_names=("a", "b", "c")), "train", progress=False
        )


def test_a_tokenizer_with_added_tokens_keeps_the_rows_of_the_checkpoint(classifier, cache_dir, tmp_path):
    directory, texts, classes = classifier
    tokenizer = models.load_tokenizer("bytes")
    tokenizer.add_tokens(["<speaker>", "<turn>"])
    tokenizer.save_pretrained(tmp_path / "more")
    path = write(tmp_path / "x.csv", texts, np.array(NEWS)[classes])
    config = configuration(cache_dir, directory, path).replace({"model.tokenizer": str(tmp_path / "more")})
    with pytest.raises(UserError, match=r"set vocab_size in .?model\.config, which keeps the rows of a checkpoint"):
        load_task(config)
    task = load_task(config.replace({"model.config": {"vocab_size": len(tokenizer)}}))
    assert f"weights of another size than in {directory}, of which what fits is kept: bert/embeddings/word" in str(
        task.notes
    )
    old = models.from_pretrained("TFAutoModelForSequenceClassification", directory)
    rows = [next(v.numpy() for v in m.weights if "word_embeddings" in v.name) for m in (old, task.model.keras_model)]
    np.testing.assert_array_equal(rows[1][: len(rows[0])], rows[0])


@pytest.mark.parametrize("trainable", ["head", "bias", "lora"])
def test_new_weights_below_the_head_are_trained(trainable, cache_dir, tmp_path):
    """A masked language model has no pooler, which a classifier has above it."""
    tokenizer = models.load_tokenizer("bytes")
    base = models.from_config("TFAutoModelForMaskedLM", "bert", {**BERT, "vocab_size": len(tokenizer)})
    models.save_pretrained(base, str(tmp_path), tokenizer)
    path = write(tmp_path / "x.csv", ["one", "two", "three", "four"], "abab")
    task = tasks.create_task(
        "sequence_classification",
        datasets.DataSpec("file", files=(path,), num_clients=2, test_fraction=0.0, cache_dir=cache_dir),
        tasks.ModelSpec(
            pretrained=str(tmp_path), trainable=trainable, lora=models.Lora((2,)) if trainable == "lora" else None
        ),
        ClientConfig(),
        progress=False,
    )
    new = ["bert/pooler/dense/kernel", "bert/pooler/dense/bias", "classifier/kernel", "classifier/bias"]
    assert f"new weights, which {tmp_path} lacks or has in another shape: {', '.join(new)}" in task.notes
    assert {f"{name}:0" for name in new} <= {name.partition("/")[2] for name in task.model.trainable_names}
    if trainable == "lora":
        directory = tmp_path / "adapter"
        directory.mkdir()
        models.save_adapter(task.model, tff.learning.models.ModelWeights(*task.model.initial_weights), str(directory))
        assert json.loads((directory / "adapter_config.json").read_text())["modules_to_save"] == [
            "bert.pooler",
            "classifier",
        ]
        stored = load_file(directory / "adapter_model.safetensors")
        assert "base_model.model.bert.pooler.dense.weight" in stored
        assert not any("embeddings" in name for name in stored)


def test_numbers_are_those_of_the_names_in_order():
    """As integer tags in files whose names of tags are elsewhere; not where names are numbers themselves."""
    find = datasets.label_lookup(("O", "B-X", "I-X"))
    assert [find(label) for label in ("O", "b-x", "2", "0", "3", "-1")] == [0, 1, 2, 0, None, None]
    assert [datasets.label_lookup(("1", "2"))(label) for label in "012"] == [None, 0, 1]
    assert datasets.ordered_label_names(["10", "2", "0"], tagged=True) == ("0", "2", "10")


def test_silos_that_spell_a_label_in_two_ways_are_told_so():
    spec = datasets.DataSpec("file", files=("x.csv",), label_column="outcome")
    found = {"north": ("0.0", "1.0"), "south": ("0", "1")}
    with pytest.raises(UserError, match=r"=outcome: .* '0', '0\.0' are .* data\.label_names=0,1, or"):
        create._label_names(TASKS["tabular_classification"], spec, None, lambda *told: found)
    found["north"] = ("1", "2")
    assert create._label_names(TASKS["tabular_classification"], spec, None, lambda *told: found) == ("0", "1", "2")
