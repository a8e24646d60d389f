"""The vector by which examples are compared."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import transformers

from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.run.pooled_features import PooledFeatures

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]


def functional(model, objective):
    """A functional model whose head alone is trained."""
    model(tf.ones([1, 3], tf.int32))
    tokens = tf.TensorSpec([None, None], tf.int32)
    spec = collections.OrderedDict(attention_mask=tokens, input_ids=tokens, seed=tf.TensorSpec([2], tf.int64))
    return models.functional_model(model, objective, spec, trainable="head", frozen_dropout=False)


def test_of_a_decoder_it_is_that_of_the_last_token():
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, pad_token_id=0)
    model = functional(transformers.TFGPT2ForSequenceClassification(config), models.classification())
    features = PooledFeatures(model, "evaluate.neighbors", 5)
    assert features.width == 8
    texts = [[3, 4, 5, 6], [7, 8], [9]]
    ids = np.array([text + [0] * (4 - len(text)) for text in texts], np.int32)
    x = {"input_ids": tf.constant(ids), "attention_mask": tf.constant(ids > 0, tf.int32)}
    found = features(model.initial_weights, {**x, "seed": tf.zeros([2], tf.int64)})
    for text, row in zip(texts, found.numpy()):
        states = model.keras_model.transformer(tf.constant([text])).last_hidden_state
        np.testing.assert_allclose(row, states[0, -1], atol=1e-5)


def test_a_head_that_labels_every_token_is_rejected():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=20, num_labels=2, **sizes)
    model = functional(transformers.TFBertForTokenClassification(config), models.token_classification(("a", "b")))
    with pytest.raises(UserError, match=r"evaluate\.neighbors=5: the head of \w+ reads every token"):
        PooledFeatures(model, "evaluate.neighbors", 5)
