"""Bottoms of checkpoints and of Keras models: all of them, adapters, or frozen with activations computed once."""

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
