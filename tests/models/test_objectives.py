"""Losses and metrics against NumPy, by the definitions."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import models

TAGS = ("O", "B-X", "I-X")
CASES = {
    "classification": (models.classification(), 1),
    "language_modeling": (models.language_modeling("causal_lm"), 2),
    "token_classification": (models.token_classification(TAGS), 2),
}
ALL = pytest.mark.parametrize("case", CASES)


def batch(rank, size, seed=0, ignored=0.3):
    generator = np.random.default_rng([seed, size, rank])
    shape = (size, 6)[:rank]
    logits = generator.standard_normal((*shape, len(TAGS))).astype(np.float32) * 3
    labels = generator.integers(0, len(TAGS), shape)
    labels[generator.random(shape) < ignored] = models.IGNORED
    return logits, labels.astype(np.int32)


def by_hand(logits, labels):
    """Sum of the losses, number of hits and number of labelled items, one item after the other."""
    loss, correct, items = 0.0, 0, 0
    for row, label in zip(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)):
        if label == models.IGNORED:
            continue
        exp = [math.exp(v) for v in row]
        loss -= math.log(exp[label] / sum(exp))
        correct += int(np.argmax(row) == label)
        items += 1
    return loss, correct, items


def run(objective, batches):
    """Metrics over batches, by the three functions as TFF calls them."""
    initialize, update, finalize = objective.metrics_fns
    state = initialize()
    for logits, labels in batches:
        loss = objective.loss_fn(tf.constant(logits), tf.constant(labels))
        output = tff.learning.models.BatchOutput(loss=loss, predictions=tf.constant(logits), num_examples=None)
        state = update(state, tf.constant(labels), output)
    return finalize(state)


@ALL
def test_loss_and_accuracy_are_means_over_labelled_items(case):
    objective, rank = CASES[case]
    logits, labels = batch(rank, 50)
    loss, correct, items = by_hand(logits, labels)
    assert 0 < items < labels.size
    assert float(objective.loss_fn(logits, labels)) == pytest.approx(loss / items, rel=1e-5)
    metrics = run(objective, [(logits, labels)])
    assert float(metrics["loss"]) == pytest.approx(loss / items, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(correct / items, rel=1e-6)
    assert int(metrics["num_items"]) == items
    assert int(metrics["num_examples"]) == 50


@ALL
def test_sums_over_unequal_batches_give_the_pooled_figure(case):
    objective, rank = CASES[case]
    batches = [batch(rank, 1, ignored=0.0), batch(rank, 20), batch(rank, 7, ignored=0.8)]
    pooled = tuple(np.concatenate(part) for part in zip(*batches))
    metrics, expected = run(objective, batches), run(objective, [pooled])
    assert list(metrics) == list(expected)
    for name in metrics:
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-5), name
    mean_of_means = np.mean([float(objective.loss_fn(*b)) for b in batches])
    assert abs(mean_of_means - float(expected["loss"])) > 0.01  # so that it would have shown


@ALL
def test_a_batch_without_labelled_items_has_loss_zero(case):
    objective, rank = CASES[case]
    logits, labels = batch(rank, 4, ignored=1.1)
    assert np.all(labels == models.IGNORED)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objective.loss_fn(logits, labels)
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, logits))
    metrics = run(objective, [(logits, labels)])
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["accuracy"]) == 0.0
    assert int(metrics["num_items"]) == 0
    more = batch(rank, 5)
    both = run(objective, [(logits, labels), more])
    alone = run(objective, [more])
    assert float(both["loss"]) == pytest.approx(float(alone["loss"]))


@ALL
def test_ignored_items_have_no_gradient(case):
    objective, rank = CASES[case]
    logits, labels = batch(rank, 10)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objective.loss_fn(logits, labels)
    gradient = tape.gradient(loss, logits).numpy()
    ignored = labels == models.IGNORED
    assert not np.any(gradient[ignored])
    exp = np.exp(logits.numpy() - logits.numpy().max(-1, keepdims=True))
    expected = exp / exp.sum(-1, keepdims=True) - np.eye(len(TAGS))[np.maximum(labels, 0)]
    np.testing.assert_allclose(gradient[~ignored], expected[~ignored] / np.sum(~ignored), atol=1e-6)


def test_perplexity_and_bits():
    objective, rank = CASES["language_modeling"]
    batches = [batch(rank, 3), batch(rank, 9)]
    metrics = run(objective, batches)
    loss, _, items = np.sum([by_hand(*b) for b in batches], axis=0)
    assert float(metrics["perplexity"]) == pytest.approx(math.exp(loss / items), rel=1e-5)
    assert float(metrics["bits_per_token"]) == pytest.approx(loss / items / math.log(2), rel=1e-5)


def test_uniform_predictions_have_the_perplexity_of_the_vocabulary():
    objective, _ = CASES["language_modeling"]
    metrics = run(objective, [(np.zeros([2, 5, 64], np.float32), np.ones([2, 5], np.int32))])
    assert float(metrics["perplexity"]) == pytest.approx(64, rel=1e-5)
    assert float(metrics["bits_per_token"]) == pytest.approx(6, rel=1e-5)


def test_token_classification_reports_entities():
    """Three true entities over two batches; one found, one cut short, one missed, one invented."""
    labels = [[[1, 2, 0, 1, 2]], [[1, -100, 0, 0, 0]]]
    predicted = [[[1, 2, 0, 1, 0]], [[0, 1, 0, 0, 1]]]
    batches = [(np.eye(3, dtype=np.float32)[np.array(p)], np.array(t, np.int32)) for t, p in zip(labels, predicted)]
    metrics = run(CASES["token_classification"][0], batches)
    assert float(metrics["precision"]) == pytest.approx(1 / 3)
    assert float(metrics["recall"]) == pytest.approx(1 / 3)
    assert float(metrics["f1"]) == pytest.approx(1 / 3)


def test_no_entity_gives_zero_not_nan():
    labels = np.zeros([2, 3], np.int32)
    metrics = run(CASES["token_classification"][0], [(np.eye(3, dtype=np.float32)[labels], labels)])
    assert [float(metrics[name]) for name in ("precision", "recall", "f1")] == [0.0, 0.0, 0.0]
    assert float(metrics["accuracy"]) == 1.0


@ALL
def test_low_precision_logits_lose_nothing_in_the_loss(case):
    objective, rank = CASES[case]
    logits, labels = batch(rank, 20)
    rounded = tf.cast(logits, tf.float16)
    loss = objective.loss_fn(rounded, labels)
    assert loss.dtype == tf.float32
    expected, _, items = by_hand(rounded.numpy().astype(np.float64), labels)
    assert float(loss) == pytest.approx(expected / items, rel=1e-5)


@ALL
def test_metrics_inside_tff(case):
    objective, rank = CASES[case]
    initialize, update, finalize = objective.metrics_fns
    logits, labels = batch(rank, 8)

    @tff.tensorflow.computation
    def compute(logits, labels):
        loss = objective.loss_fn(logits, labels)
        output = tff.learning.models.BatchOutput(loss=loss, predictions=logits, num_examples=8)
        return finalize(update(initialize(), labels, output))

    metrics, expected = compute(logits, labels), run(objective, [(logits, labels)])
    assert list(metrics) == list(expected)
    for name in metrics:
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-6), name


@ALL
def test_tff_sums_over_clients_then_finalizes(case):
    objective, rank = CASES[case]
    initialize, update, finalize = objective.metrics_fns
    batches = [batch(rank, size) for size in (2, 9)]
    states = []
    for logits, labels in batches:
        output = tff.learning.models.BatchOutput(
            loss=objective.loss_fn(logits, labels), predictions=tf.constant(logits), num_examples=0
        )
        state = update(initialize(), tf.constant(labels), output)
        states.append(tf.nest.map_structure(lambda t: t.numpy(), state))
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, initialize())
    unfinalized = tff.types.tensorflow_to_type(specs)

    @tff.federated_computation(tff.FederatedType(unfinalized, tff.CLIENTS))
    def aggregate(states):
        return tff.learning.metrics.sum_then_finalize(finalize)(states)

    metrics, expected = aggregate(states), run(objective, batches)
    assert isinstance(metrics, collections.abc.Mapping)
    for name in expected:
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-5), name
