"""Several text columns: pairs of texts as the tokenizer encodes them, and more of them with separators."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import transformers

from tests import tiny
from tff_tx import datasets, inference, models, tasks
from tff_tx.config import RunConfig, check
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError

WORDS = ("ann", "bob", "is", "was", "here", "there")
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TABLE = pd.DataFrame(
    {
        "a": ["ann is here", "bob was", "ann", "bob is there here"],
        "b": ["bob", "ann is here was", "there", "is"],
        "c": ["here", "there", "is", "was"],
        "label": ["x", "y", "x", "y"],
    }
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "x.csv"
    TABLE.to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("words"))
    tiny.words_tokenizer(WORDS).save_pretrained(directory)
    return directory


def create(path, cache_dir, tokenizer, columns, architecture="bert", **data):
    config = BERT if architecture == "bert" else {**BERT, "type_vocab_size": 1}
    spec = datasets.DataSpec(
        "file", files=(path,), num_clients=1, test_fraction=0.0, cache_dir=cache_dir, text_column=columns, **data
    )
    model = tasks.ModelSpec(architecture=architecture, config={**config, "initializer_range": 1.0}, tokenizer=tokenizer)
    return spec, model, tasks.create_task("sequence_classification", spec, model, ClientConfig(), progress=False)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_two_texts_are_a_pair(architecture, path, cache_dir, tokenizer):
    """In training, evaluation and prediction, as a plain model has it."""
    spec, model_spec, task = create(path, cache_dir, tokenizer, ("a", "b"), architecture)
    words = models.load_tokenizer(tokenizer)
    expected = words(TABLE["a"].tolist(), TABLE["b"].tolist(), padding=True, return_tensors="np")
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if architecture == "bert" else [])
    ((x, y),) = task.eval_batches_fn(task.train)(task.train.client_ids[0])
    order = [expected["input_ids"].tolist().index(ids.tolist()) for ids in x["input_ids"].numpy()]
    assert sorted(order) == list(range(4))
    for name in names:
        np.testing.assert_array_equal(x[name], expected[name][order])
    assert ("token_type_ids" in x) == (architecture == "bert")
    keras_model = task.model.keras_model
    logits = keras_model({name: tf.constant(expected[name]) for name in names}).logits
    predictor = inference.build_predictor(
        "sequence_classification", keras_model, model_spec, data=spec, tokenizer=words, batch_size=2
    )
    found = list(predictor.predict(predictor.read(files=[path])))
    for row, scores in zip(found, tf.nn.softmax(logits).numpy(), strict=True):
        assert row["probabilities"] == pytest.approx(dict(zip("xy", scores.tolist())), abs=1e-4)
    assert [row["a"] for row in found] == TABLE["a"].tolist()


def test_more_texts_have_separators(path, cache_dir, tokenizer):
    _, _, task = create(path, cache_dir, tokenizer, ("a", "b", "c"))
    words = transformers.AutoTokenizer.from_pretrained(tokenizer)  # to which a separator in a text is one
    joined = [f"{a} [SEP] {b} [SEP] {c}" for a, b, c, _ in TABLE.itertuples(index=False)]
    found = [e["input_ids"].numpy().tolist() for e in task.train.create_tf_dataset_for_client(task.train.client_ids[0])]
    assert sorted(found) == sorted(words(joined)["input_ids"])


def test_they_are_joined_as_chosen(path, cache_dir, tokenizer):
    _, _, task = create(path, cache_dir, tokenizer, ("a", "b"), text_join="blank")
    words = models.load_tokenizer(tokenizer)
    found = [e["input_ids"].numpy().tolist() for e in task.train.create_tf_dataset_for_client(task.train.client_ids[0])]
    assert sorted(found) == sorted(words([f"{a} {b}" for a, b in zip(TABLE["a"], TABLE["b"])])["input_ids"])
    assert set(task.train.element_type_structure) == {"input_ids", "label"}


def test_a_run_of_before_there_was_a_choice_keeps_its_blanks():
    config = RunConfig.of({"data.text_column": ("a", "b")})
    stored = config.to_json()
    assert RunConfig.from_json(stored) == config
    del stored["data"]["text_join"]
    assert RunConfig.from_json(stored).data.text_join == "blank"


@pytest.mark.parametrize(
    ("columns", "join", "kind", "message"),
    [
        (("a",), "blank", "sequence_classification", "text_join=blank has no effect with one column"),
        (("a", "b", "c"), "pair", "sequence_classification", "text_join=pair needs two columns"),
        (("a", "b"), "pair", "causal_lm", "its texts are single ones"),
    ],
)
def test_joins_that_have_no_effect_are_refused(columns, join, kind, message):
    values = {"data.text_column": columns, "data.text_join": join, "task.kind": kind, "data.dataset": "file"}
    with pytest.raises(UserError, match=message):
        check(RunConfig.of({**values, "data.files": ("x.csv",), "model.architecture": "bert"}))
