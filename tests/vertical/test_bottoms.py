"""Bottoms of checkpoints and of Keras models: all of them, adapters, or frozen with activations computed once."""

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from tests import tiny
from tests.vertical import small
from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.run.assemble.vertical import load_party
from tff_tx.vertical.saved import SavedKeras

TABLE = "note,x,y\nred apple,1,0\ngreen tree,2,1\nred tree,3,1\ngreen apple,4,0\n"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A directory with a table and a tiny BERT."""
    root = tmp_path_factory.mktemp("texts")
    (root / "table.csv").write_text(TABLE)
    tokenizer = tiny.words_tokenizer(["red", "green", "apple", "tree"])
    tokenizer.save_pretrained(root / "bert")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **size)
    model = transformers.TFBertModel(config)
    model(np.array([[0, 1]]))  # its weights get the names that a checkpoint has
    model.save_pretrained(root / "bert")
    return root


def loaded(root, **party):
    """A party of the table, and what its bottom sends of its rows."""
    settings = small.settings(parties={"p": {"files": [str(root / "table.csv")], "label": "y", **party}}, max_length=8)
    found = load_party(small.config(), settings, "p", settings.party_configs()["p"])
    batch = {name: tf.constant(array) for name, array in found.data.inputs.items()}
    half = found.bottom
    sent = half.model.predict_on_batch((half.trainable, half.fixed), {**batch, models.SEED: tf.zeros([2], tf.int64)})
    return found, sent.numpy()


def tiny_bert_tokens(root):
    """Mean of a text's tokens: each has [CLS], two words and [SEP]."""
    model = transformers.TFBertModel.from_pretrained(root / "bert")
    words = tiny.words_tokenizer(["red", "green", "apple", "tree"])(
        ["red apple", "green tree", "red tree", "green apple"]
    )
    return model(np.array(words["input_ids"])).last_hidden_state.numpy().mean(axis=1)


@pytest.mark.slow
def test_of_a_bert_all_adapters_or_the_projection_alone_are_trained(texts):
    party = {"text": "note", "pretrained": str(texts / "bert")}
    (whole, sent), (adapted, by_adapters), (frozen, _) = (
        loaded(texts, **party, trainable=part) for part in ("all", "lora", "none")
    )
    assert sent.shape == (4, 1, 8)
    np.testing.assert_allclose(by_adapters, sent, atol=1e-5)  # adapters start as nothing
    tokens = tiny_bert_tokens(texts)
    np.testing.assert_allclose(frozen.data.inputs["features"][:, 0], tokens, atol=1e-5)
    sizes = [sum(int(tf.size(w)) for w in found.bottom.trainable) for found in (whole, adapted, frozen)]
    assert sizes[0] > sizes[1] > sizes[2] == 8 * 8 + 8


@pytest.mark.slow
def test_of_a_vit_all_adapters_or_the_projection_alone_are_trained(tmp_path):
    """Of digits: 16 patches of 2 x 2 pixels and a class token are read, and a token of each is sent."""
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vit = transformers.TFViTModel(transformers.ViTConfig(image_size=8, patch_size=2, num_channels=1, **size))
    vit(np.zeros([1, 1, 8, 8], np.float32))  # its weights get the names that a checkpoint has
    vit.save_pretrained(tmp_path / "vit")
    found, sent = {}, {}
    for part in ("all", "lora", "none"):
        party = {"image": [0, 8], "label": "label", "pretrained": str(tmp_path / "vit"), "trainable": part}
        settings = small.settings(parties={"left": party})
        found[part] = load_party(small.config("digits"), settings, "left", settings.party_configs()["left"])
        half, inputs = found[part].bottom, found[part].data.inputs
        rows = {name: tf.constant(array[:9]) for name, array in inputs.items()}
        given = {**rows, models.SEED: tf.zeros([2], tf.int64)}
        sent[part] = half.model.predict_on_batch((half.trainable, half.fixed), given, True).numpy()
    assert sent["all"].shape == (9, 17, 8)
    np.testing.assert_allclose(sent["lora"], sent["all"], atol=1e-5)  # adapters start as nothing
    pixels = found["all"].data.inputs["pixel_values"]
    tokens = vit(tf.constant(pixels)).last_hidden_state.numpy()
    np.testing.assert_allclose(found["none"].data.inputs["features"], tokens, atol=1e-5)
    sizes = [sum(int(tf.size(w)) for w in found[part].bottom.trainable) for part in found]
    assert sizes[0] > sizes[1] > sizes[2] == 8 * 8 + 8


@pytest.mark.slow
def test_a_keras_model_is_a_bottom_trained_or_frozen(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    model = tf_keras.Sequential([tf_keras.layers.Input([1]), tf_keras.layers.Dense(3, "tanh")])
    model.save(path := str(tmp_path / "own.keras"))
    party = {"numeric": ["x"], "pretrained": path}
    (trained, sent), (frozen, _) = (loaded(tmp_path, **party, trainable=part) for part in ("all", "none"))
    hidden = model.predict(np.array([[1.0], [2.0], [3.0], [4.0]]), verbose=0)
    kernel, bias = (next(w for w in trained.bottom.trainable if w.shape == shape) for shape in ([3, 8], [8]))
    np.testing.assert_allclose(sent[:, 0], hidden @ kernel.numpy() + bias.numpy(), atol=1e-5)
    np.testing.assert_allclose(frozen.data.inputs["features"][:, 0], hidden, atol=1e-5)
    assert len(trained.bottom.trainable) == 4
    with pytest.raises(UserError, match=r"reads rows of shape \(1,\), and the party has rows of shape \(2,\)"):
        loaded(tmp_path, numeric=["x", "y"], pretrained=path)
    with pytest.raises(UserError, match="none.keras cannot be read as a Keras model"):
        loaded(tmp_path, numeric=["x"], pretrained=str(tmp_path / "none.keras"))


def test_a_keras_model_of_usual_layers_is_read(tmp_path):
    layers = tf_keras.layers
    given = layers.Input([4])
    reshaped = layers.Reshape([2, 2])(
        layers.Dense(4, "relu", kernel_regularizer="l2", kernel_constraint="nonneg")(given)
    )
    attended = layers.MultiHeadAttention(1, 2)(layers.LayerNormalization()(reshaped), reshaped)
    model = tf_keras.Model(given, layers.TimeDistributed(layers.Dense(3))(layers.Add()([reshaped, attended])))
    model.compile("adam", "mse")
    model.save(path := str(tmp_path / "usual.keras"))
    rows = tf.random.normal([5, 4])
    np.testing.assert_allclose(SavedKeras(path)({"numbers": rows}), model(rows), rtol=1e-6)


def rewritten(path, change, weights="model.weights.h5"):
    """Rewrites the configuration in a file of Keras's, and the name of its weights."""
    with zipfile.ZipFile(path) as archive:
        config, held = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr(weights, held)


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("os", "system", None),
        ("builtins", "function", "eval"),
        ("keras.models", "load_model", None),
        ("keras", "utils.get_file", None),
        ("keras.layers", "deserialize", None),
        ("keras.layers", "Lambda", None),
        (None, "TFOpLambda", None),
        ("keras.layers", "Dense", "Package>Dense"),
    ],
)
def test_a_keras_model_that_would_run_code_is_rejected_before_it_is_loaded(tmp_path, module, name, registered):
    model = tf_keras.Sequential([tf_keras.layers.Input([1]), tf_keras.layers.Dense(3)])
    model.save(path := str(tmp_path / "own.keras"))
    rewritten(
        path,
        lambda config: config["config"]["layers"][1].update(
            module=module, class_name=name, registered_name=registered, config="eval"
        ),
    )
    with pytest.raises(UserError, match=f"own.keras has '{name}', which is no layer of Keras's own"):
        SavedKeras(path)


def test_what_keras_would_unpickle_or_load_by_an_older_format_is_rejected(tmp_path):
    model = tf_keras.Sequential([tf_keras.layers.Input([1]), tf_keras.layers.Lambda(lambda x: x)])
    model.save(str(tmp_path / "old.h5"))
    (tmp_path / "old.h5").rename(tmp_path / "old.keras")
    with pytest.raises(UserError, match="old.keras cannot be read as a Keras model"):
        SavedKeras(str(tmp_path / "old.keras"))
    tf_keras.Sequential([tf_keras.layers.Input([1])]).save(path := str(tmp_path / "pickled.keras"))
    rewritten(path, lambda config: None, weights="model.weights.npz")
    with pytest.raises(UserError, match="pickled.keras has no weights in HDF5"):
        SavedKeras(path)


@pytest.mark.slow
def test_the_config_of_a_party_has_sizes_and_public_means_of_its_columns(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    config = {"hidden_size": 12, "num_hidden_layers": 2, "means": [1.0], "deviations": [2.0]}
    found, _ = loaded(tmp_path, numeric=["x"], config=config)
    assert found.facts["columns"]["means"] == [1.0]
    assert found.facts["columns"]["deviations"] == [2.0]
    shapes = [w.shape.as_list() for w in found.bottom.trainable]
    assert [12, 8] in shapes  # the projection to the cut
