"""Answers by spans: loss and metrics against NumPy, by the definitions."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.models import zoo
from tff_tx import models
from tff_tx.core.errors import UserError

LENGTH, FIRST, BEHIND = 9, 3, 8  # [CLS] at 0, the text from 3 to 7, padding at 8
SMALL = dict(vocab_size=zoo.VOCABULARY, num_attention_heads=2, num_hidden_layers=1, max_position_embeddings=32)
ENCODERS = {
    "bert": {**SMALL, "hidden_size": 16, "intermediate_size": 32, "hidden_dropout_prob": 0.1},
    "roberta": {**SMALL, "hidden_size": 16, "intermediate_size": 32, "pad_token_id": 1},
    "distilbert": dict(
        vocab_size=zoo.VOCABULARY, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=32
    ),
}


def labels(*spans):
    result = np.full([len(spans), LENGTH, 2], models.IGNORED, np.int32)
    result[:, FIRST:BEHIND] = result[:, 0] = 0
    for row, span in zip(result, spans):
        for column, position in enumerate(span):
            row[position, column] = 1
    return result


def logits(size, seed=0):
    return np.random.default_rng(seed).normal(size=[size, LENGTH, 2]).astype(np.float32) * 3


def spans_by_hand(logits, most):
    """Of [CLS] and all spans of the text the one of the largest score."""
    possible = [(0, 0)] + [(s, e) for s in range(FIRST, BEHIND) for e in range(s, min(s + most, BEHIND))]
    return [max(possible, key=lambda span: row[span[0], 0] + row[span[1], 1]) for row in logits]


def run(objective, batches):
    initialize, update, finalize = objective.metrics_fns
    state = initialize()
    for predictions, truth in batches:
        predictions, truth = tf.constant(predictions), tf.constant(truth)
        output = tff.learning.models.BatchOutput(
            loss=objective.loss_fn(predictions, truth), predictions=predictions, num_examples=None
        )
        state = update(state, truth, output)
    return {name: float(value) for name, value in finalize(state).items()}


def test_the_loss_is_the_mean_of_two_cross_entropies_over_the_text_and_cls():
    truth, found = [(3, 5), (0, 0), (7, 7)], logits(3)
    expected = 0.0
    for row, span in zip(found.astype(np.float64), truth):
        for column, position in enumerate(span):
            exp = np.exp(row[[0, *range(FIRST, BEHIND)], column])
            expected -= (row[position, column] - math.log(exp.sum())) / 6
    assert float(models.question_answering().loss_fn(found, labels(*truth))) == pytest.approx(expected, rel=1e-5)


def test_where_no_answer_can_be_there_is_no_gradient():
    found, truth = tf.constant(logits(2)), labels((3, 4), (0, 0))
    with tf.GradientTape() as tape:
        tape.watch(found)
        loss = models.question_answering().loss_fn(found, truth)
    gradient = tape.gradient(loss, found).numpy()
    assert not gradient[truth == models.IGNORED].any()
    assert gradient[truth == 0].all()
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-6)


@pytest.mark.parametrize("most", [1, 2, 30])
def test_the_best_span_is_the_best_of_all_that_may_be(most):
    found = logits(200)
    allowed = labels((0, 0)) != models.IGNORED
    start, end, score = models.best_spans(found, np.repeat(allowed, 200, 0), most)
    expected = spans_by_hand(found, most)
    assert list(zip(start.numpy(), end.numpy())) == expected
    np.testing.assert_allclose(score, [r[s, 0] + r[e, 1] for r, (s, e) in zip(found, expected)], rtol=1e-6)


def test_no_span_goes_from_cls_into_the_text():
    found = np.zeros([1, LENGTH, 2], np.float32)
    found[0, 0, 0], found[0, 4, 1], found[0, 3, 0] = 10, 10, 1
    start, end, _ = models.best_spans(found, labels((0, 0)) != models.IGNORED, 30)
    assert (int(start[0]), int(end[0])) == (3, 4)


def test_exact_match_and_f1_of_tokens():
    truth = [(3, 5), (4, 7), (0, 0), (6, 6), (5, 6)]
    told = [(3, 5), (3, 5), (0, 0), (0, 0), (3, 3)]
    found = np.zeros([5, LENGTH, 2], np.float32)
    for row, (start, end) in zip(found, told):
        row[start, 0] = row[end, 1] = 5
    metrics = run(models.question_answering(), [(found, labels(*truth))])
    assert metrics["exact_match"] == pytest.approx(2 / 5)
    # The second shares 2 tokens of 3 and of 4.
    assert metrics["f1"] == pytest.approx((1 + 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4) + 1) / 5)
    assert metrics["num_items"] == metrics["num_examples"] == 5


def test_sums_over_unequal_batches_give_the_pooled_figures():
    truth = [labels((3, 5)), labels((0, 0), (4, 4), (5, 7))]
    found = [logits(1, seed=1), logits(3, seed=2)]
    objective = models.question_answering(2)
    apart = run(objective, zip(found, truth))
    assert apart == pytest.approx(run(objective, [(np.concatenate(found), np.concatenate(truth))]), rel=1e-5)


def test_a_batch_without_labels_counts_for_nothing():
    truth = np.full([2, LENGTH, 2], models.IGNORED, np.int32)
    metrics = run(models.question_answering(), [(logits(2), truth)])
    assert (metrics["loss"], metrics["exact_match"], metrics["num_items"]) == (0.0, 0.0, 0.0)


@pytest.fixture(
    scope="module",
    params=["distilbert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert", "roberta"))],
)
def encoder(request):
    return models.from_config("TFAutoModelForQuestionAnswering", request.param, ENCODERS[request.param])


def functional(model, **how):
    names = ("attention_mask", "input_ids", *(("token_type_ids",) if models.has_segments(model.config) else ()))
    spec = collections.OrderedDict((name, tf.TensorSpec([None, None], tf.int32)) for name in names)
    spec[models.SEED] = tf.TensorSpec([2], tf.int64)
    return models.functional_model(model, models.question_answering(), spec, **how)


def inputs(model, padding=0):
    ids = np.pad(np.random.default_rng(0).integers(4, zoo.VOCABULARY, [2, LENGTH]), [(0, 0), (0, padding)])
    x = {"attention_mask": np.arange(LENGTH + padding) < LENGTH, "input_ids": ids}
    x["attention_mask"] = np.repeat(x["attention_mask"][None], 2, 0)
    if models.has_segments(model.config):
        x["token_type_ids"] = np.repeat((np.arange(LENGTH + padding) >= FIRST)[None], 2, 0)
    return {name: tf.constant(value, tf.int32) for name, value in x.items()}


def test_predictions_are_the_models_two_logits_and_the_loss_is_hugging_faces(encoder):
    """Theirs sums over all positions, so all are allowed here."""
    model, x = functional(encoder), inputs(encoder)
    seed = tf.constant([1, 2], tf.int64)
    found = model.predict_on_batch(model.initial_weights, {**x, models.SEED: seed}, training=False)
    spans = [(3, 5), (4, 4)]
    starts, ends = zip(*spans)
    theirs = encoder(x, start_positions=tf.constant(starts), end_positions=tf.constant(ends), training=False)
    np.testing.assert_allclose(found[..., 0], theirs.start_logits, atol=1e-5)
    np.testing.assert_allclose(found[..., 1], theirs.end_logits, atol=1e-5)
    truth = np.maximum(labels(*spans), 0)
    assert float(model.loss(found, truth)) == pytest.approx(float(tf.reduce_mean(theirs.loss)), rel=1e-5)


def test_padding_changes_nothing(encoder):
    model = functional(encoder)
    losses = []
    for padding in (0, 3):
        x = {**inputs(encoder, padding), models.SEED: tf.constant([1, 2], tf.int64)}
        truth = np.pad(labels((3, 5), (4, 4)), [(0, 0), (0, padding), (0, 0)], constant_values=models.IGNORED)
        found = model.predict_on_batch(model.initial_weights, x, training=False)
        losses.append(float(model.loss(found, truth)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_adapters_come_with_the_head(encoder):
    model = functional(encoder, trainable="lora", lora=models.Lora(ranks=(2,)))
    assert sum("qa_outputs" in name for name in model.trainable_names) == 2
    assert sum("lora" in name for name in model.trainable_names) == 4
    assert len(model.trainable_names) == 6
    head = functional(encoder, trainable="head")
    assert all("qa_outputs" in name for name in head.trainable_names)


def test_distillation_of_places_is_refused(encoder):
    with pytest.raises(UserError, match="predictions of question_answering are probabilities of places in a text"):
        models.check_predicts_classes(functional(encoder))
    with pytest.raises(UserError, match="predictions of sequence_to_sequence are made with targets as inputs"):
        models.check_predicts_classes(zoo.BY_NAME["t5"].functional())


def test_models_of_two_models_are_refused():
    with pytest.raises(UserError, match="model.architecture=encoder-decoder: .* choose one of bart, .*, t5"):
        models.from_config("TFAutoModelForSeq2SeqLM", "encoder-decoder", {})
