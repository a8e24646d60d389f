"""Batches of texts with targets, and of questions, against the models' own ideas of them."""

import collections
import types

import numpy as np
import pytest
import tensorflow as tf
import transformers

from tests.models import zoo
from tff_tx import models
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.tasks import Preprocessing

SEED = tf.constant([3, 4], tf.int64)
IDS = tf.TensorSpec([None], tf.int32)
PAIRS = collections.OrderedDict(input_ids=IDS, labels=IDS)
QUESTIONS = collections.OrderedDict((n, IDS) for n in ("input_ids", "token_type_ids", "starts", "ends"))
TOKENIZER = types.SimpleNamespace(pad_token_id=1)
EXAMPLES = [{"input_ids": [7, 8, 9], "labels": [5, 1, 6, 2]}, {"input_ids": [4], "labels": [9, 2]}]


def dataset(examples, spec):
    ordered = [collections.OrderedDict((name, example[name]) for name in spec) for example in examples]
    return tf.data.Dataset.from_generator(lambda: iter(ordered), output_signature=spec)


@pytest.fixture(scope="module")
def t5():
    model = zoo.BY_NAME["t5"].build()
    model.config.decoder_start_token_id = 3
    return model


def batch(config):
    preprocessing = Preprocessing("sequence_to_sequence", PAIRS, TOKENIZER, config=config)
    ((x, y),) = preprocessing.evaluate(dataset(EXAMPLES, PAIRS), SEED, 2)
    assert list(x) == list(preprocessing.x_spec)
    for name, spec in preprocessing.x_spec.items():
        assert spec.is_compatible_with(x[name])
    return x, y


def test_the_decoder_reads_the_target_one_late(t5):
    x, y = batch(t5.config)
    assert y.numpy().tolist() == [[5, 1, 6, 2], [9, 2, -100, -100]]
    assert x["input_ids"].numpy().tolist() == [[7, 8, 9], [4, 1, 1]]
    assert x["attention_mask"].numpy().tolist() == [[1, 1, 1], [1, 0, 0]]
    # The 1 of the first target is a token, though padding has the same number.
    assert x["decoder_input_ids"].numpy().tolist() == [[3, 5, 1, 6], [3, 9, 2, 1]]
    assert x["decoder_attention_mask"].numpy().tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    np.testing.assert_array_equal(x["decoder_input_ids"], t5._shift_right(y))


@pytest.mark.slow
def test_the_loss_is_hugging_faces(t5):
    x, y = batch(t5.config)
    spec = Preprocessing("sequence_to_sequence", PAIRS, TOKENIZER, config=t5.config).x_spec
    model = models.functional_model(t5, models.language_modeling("sequence_to_sequence"), spec)
    found = model.predict_on_batch(model.initial_weights, x, training=False)
    theirs = t5(input_ids=x["input_ids"], attention_mask=x["attention_mask"], labels=y, training=False)
    # Theirs is the mean over the tokens of the batch, as ours.
    assert float(model.loss(found, y)) == pytest.approx(float(tf.reduce_mean(theirs.loss)), rel=1e-5)


def test_adapters_of_an_encoder_and_decoder(t5):
    spec = Preprocessing("sequence_to_sequence", PAIRS, TOKENIZER, config=t5.config).x_spec
    objective = models.language_modeling("sequence_to_sequence")
    model = models.functional_model(t5, objective, spec, trainable="lora", lora=models.Lora(ranks=(2,)))
    # Queries and values of 2 layers with attention to the text, and of 2 with attention to it and to the target.
    assert len(model.adapters) == 2 * (2 + 2 * 2)
    assert all("lora" in name for name in model.trainable_names)


def test_without_a_start_nothing_can_be_decoded():
    with pytest.raises(UserError, match="the mbart model has no decoder_start_token_id.*model.config"):
        batch(transformers.MBartConfig())


ASKED = [
    {
        "input_ids": [0, 7, 2, 8, 9, 2],
        "token_type_ids": [0, 0, 0, 1, 1, 1],
        "starts": [0, -100, -100, 1, 0, -100],
        "ends": [0, -100, -100, 0, 1, -100],
    },
    {"input_ids": [0, 7, 2], "token_type_ids": [0, 0, 0], "starts": [1, -100, -100], "ends": [1, -100, -100]},
]


@pytest.mark.parametrize(
    ("config", "has"),
    [
        (transformers.BertConfig(), True),
        (transformers.RobertaConfig(type_vocab_size=1), False),
        (transformers.DistilBertConfig(), False),
    ],
)
def test_questions_and_where_their_answers_are(config, has):
    preprocessing = Preprocessing("question_answering", QUESTIONS, TOKENIZER, config=config)
    ((x, y),) = preprocessing.evaluate(dataset(ASKED, QUESTIONS), SEED, 2)
    assert list(x) == list(preprocessing.x_spec)
    assert x["input_ids"].numpy().tolist() == [[0, 7, 2, 8, 9, 2], [0, 7, 2, 1, 1, 1]]
    assert x["attention_mask"].numpy().tolist() == [[1] * 6, [1] * 3 + [0] * 3]
    assert ("token_type_ids" in x) == has
    if has:
        assert x["token_type_ids"].numpy().tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]
    assert y[..., 0].numpy().tolist() == [[0, -100, -100, 1, 0, -100], [1] + [-100] * 5]
    assert y[..., 1].numpy().tolist() == [[0, -100, -100, 0, 1, -100], [1] + [-100] * 5]


def test_training_batches_hold_each_example_once(t5):
    preprocessing = Preprocessing("sequence_to_sequence", PAIRS, TOKENIZER, config=t5.config)
    batches = list(preprocessing.train(lambda _: dataset(EXAMPLES, PAIRS), SEED, ClientConfig(batch_size=1)))
    assert sorted(y.numpy().tolist() for _, y in batches) == [[[5, 1, 6, 2]], [[9, 2]]]
