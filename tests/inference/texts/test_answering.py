"""Answers of a random model, against a search by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.inference import texts

QUESTIONS = ["who is there", "who was it", "who is she"]
CONTEXTS = ["ann is there but bob was not it was she " * 3, "it was bob", "ann"]


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def model(request, words_tokenizer):
    config = dict(vocab_size=len(words_tokenizer), max_position_embeddings=32, initializer_range=1.0)
    if request.param == "bert":
        config |= dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    else:
        config |= dict(dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    return models.from_config("TFAutoModelForQuestionAnswering", request.param, config, seed=5)


def by_hand(model, tokenizer, question, context, most):
    """Of all windows, one after the other, the best span, and the least of the scores of no answer."""
    best, null = None, np.inf
    for window in datasets.ContextWindows(tokenizer, 20, 4)([question], [context]):
        x = {
            "input_ids": tf.constant([window.input_ids]),
            "attention_mask": tf.ones([1, len(window.input_ids)], tf.int32),
        }
        if model.config.model_type == "bert":
            x["token_type_ids"] = tf.constant([window.token_type_ids])
        output = model(x, training=False)
        start, end = output.start_logits.numpy()[0], output.end_logits.numpy()[0]
        null = min(null, start[0] + end[0])
        inside = np.flatnonzero(window.offsets[:, 0] >= 0)
        for s in inside:
            for e in inside[(inside >= s) & (inside < s + most)]:
                if best is None or start[s] + end[e] > best[0]:
                    best = start[s] + end[e], window.offsets[s, 0], window.offsets[e, 1]
    score, first, behind = best
    return (context[first:behind], first, score - null) if score > null else ("", -1, score - null)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("most", [1, 5])
def test_the_best_span_of_all_windows(model, words_tokenizer, batch_size, most):
    answer = texts.Answerer(
        model, words_tokenizer, max_length=20, overlap=4, max_answer_length=most, batch_size=batch_size
    )
    found = answer(QUESTIONS, CONTEXTS)
    for given, question, context in zip(found, QUESTIONS, CONTEXTS, strict=True):
        text, start, score = by_hand(model, words_tokenizer, question, context, most)
        assert (given.text, given.start) == (text, start)
        assert given.score == pytest.approx(score, abs=1e-4)
        assert len(given.text.split()) <= most


def test_a_context_without_words_has_no_answer(model, words_tokenizer):
    answer = texts.Answerer(model, words_tokenizer, max_length=20, overlap=4, max_answer_length=5)
    (found,) = answer(["who"], [""])
    assert (found.text, found.start) == ("", -1)
