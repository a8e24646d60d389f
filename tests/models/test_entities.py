"""Entity counts against seqeval 1.2.2, which computes them from lists of tags."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tensorflow_federated as tff
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOBES, Entities

from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.models.objectives.entities import EntityCounter


def scheme(kinds):
    return ["O"] + [f"{p}-{k}" for k in kinds for p in "BI"]


def metrics_of(counts):
    correct, predicted, true = (int(counts[f"entities_{name}"]) for name in ("correct", "predicted", "true"))
    precision = correct / predicted if predicted else 0.0
    recall = correct / true if true else 0.0
    return precision, recall, 2 * correct / (predicted + true) if predicted + true else 0.0


def seqeval_metrics(true, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without entities
        report = classification_report(true, predicted, output_dict=True, zero_division=0)
    average = report["micro avg"]
    return average["precision"], average["recall"], average["f1-score"]


def seqeval_counts(true, predicted):
    """Entities of each sentence on its own, so that a compensating error shows."""
    counts = [0, 0, 0]
    for t, p in zip(true, predicted):
        t, p = set(get_entities(t)), set(get_entities(p))
        counts = [a + b for a, b in zip(counts, (len(t & p), len(p), len(t)))]
    return counts


def tags(names, ids, counted):
    return [[names[i] for i, c in zip(row, use) if c] for row, use in zip(ids, counted)]


@pytest.mark.parametrize("kinds", [["X"], ["X", "Y"], ["Disease", "Drug", "Gene-Protein"]])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("agreement", [0.0, 0.8])
def test_counts_equal_seqevals_on_random_tags(kinds, ignored, agreement):
    """Uniform tags are malformed as often as not: I- without B-, changes of type within."""
    names = scheme(kinds)
    generator = np.random.default_rng(7)
    sentences, length = 1000, 12
    labels = generator.integers(0, len(names), (sentences, length))
    other = generator.integers(0, len(names), (sentences, length))
    predictions = np.where(generator.random((sentences, length)) < agreement, labels, other)
    counted = generator.random((sentences, length)) >= ignored
    masked = np.where(counted, labels, models.IGNORED)

    counts = EntityCounter(names)(
        tf.constant(masked, tf.int32), tf.constant(predictions, tf.int32), tf.constant(counted)
    )
    true, predicted = tags(names, labels, counted), tags(names, predictions, counted)
    assert [int(v) for v in counts.values()] == seqeval_counts(true, predicted)
    assert metrics_of(counts) == pytest.approx(seqeval_metrics(true, predicted))
    assert 0 < int(counts["entities_correct"]) < int(counts["entities_true"])


SENTENCES = [
    # true, predicted: as they occur in biomedical text
    ("O B-Disease I-Disease O", "O B-Disease I-Disease O"),
    ("O B-Disease I-Disease O", "O B-Disease O O"),  # cut short
    ("O B-Disease I-Disease O", "O I-Disease I-Disease O"),  # the same entity, badly begun
    ("B-Disease B-Disease O O", "B-Disease I-Disease O O"),  # two neighbours taken for one
    ("B-Disease I-Disease O B-Drug", "B-Disease I-Drug O B-Drug"),  # changes type within
    ("O O O B-Disease", "O O O B-Disease"),  # ends with the sentence
    ("O O O O", "O O O O"),
    ("O O O O", "B-Drug O O O"),
]


@pytest.mark.parametrize(("true", "predicted"), SENTENCES)
def test_counts_equal_seqevals_on_sentences(true, predicted):
    names = scheme(["Disease", "Drug"])
    ids = [[names.index(tag) for tag in sentence.split()] for sentence in (true, predicted)]
    labels, predictions = (tf.constant([row], tf.int32) for row in ids)
    counts = EntityCounter(names)(labels, predictions, tf.ones_like(labels, tf.bool))
    expected = seqeval_counts([true.split()], [predicted.split()])
    assert [int(v) for v in counts.values()] == expected


def test_pieces_between_words_are_as_if_they_were_not_there():
    """A word's later pieces are ignored: what they are predicted as must not break its entity."""
    names = scheme(["Disease"])
    labels = tf.constant([[-100, 1, -100, -100, 2, -100, 0, -100]], tf.int32)
    predictions = tf.constant([[2, 1, 0, 1, 2, 0, 0, 1]], tf.int32)
    counts = EntityCounter(names)(labels, predictions, labels != models.IGNORED)
    assert [int(v) for v in counts.values()] == [1, 1, 1]


def test_an_entity_does_not_reach_into_the_next_sentence():
    names = scheme(["Disease"])
    labels = tf.constant([[0, 1], [2, 0]], tf.int32)
    counts = EntityCounter(names)(labels, labels, tf.ones_like(labels, tf.bool))
    assert [int(v) for v in counts.values()] == [2, 2, 2]


def test_all_ignored_counts_nothing():
    labels = tf.constant([[-100, -100]], tf.int32)
    counts = EntityCounter(scheme(["X"]))(labels, labels + 101, labels != models.IGNORED)
    assert [int(v) for v in counts.values()] == [0, 0, 0]


def test_types_may_stand_in_any_order():
    names = ["I-Drug", "B-Disease", "O", "B-Drug", "I-Disease"]
    labels = tf.constant([[1, 4, 2, 3, 0, 0]], tf.int32)
    predictions = tf.constant([[1, 4, 2, 3, 0, 2]], tf.int32)
    counts = EntityCounter(names)(labels, predictions, tf.ones_like(labels, tf.bool))
    assert [int(v) for v in counts.values()] == [1, 2, 2]


@pytest.mark.parametrize(("scheme_class", "letters"), [(IOBES, "BIES"), (BILOU, "BILU")])
@pytest.mark.parametrize("agreement", [0.0, 0.9])
def test_schemes_with_ends_are_counted_strictly_as_seqeval_does(scheme_class, letters, agreement):
    """Uniform tags are malformed as often as not: no end, an end of another type, I without a beginning."""
    names = ["O", *(f"{letter}-{kind}" for kind in ("X", "Y") for letter in letters)]
    generator = np.random.default_rng(3)
    labels, other = generator.integers(0, len(names), (2, 2000, 8))
    predictions = np.where(generator.random(labels.shape) < agreement, labels, other)
    counted = generator.random(labels.shape) >= 0.2
    counts = EntityCounter(names)(*(tf.constant(a, tf.int32) for a in (labels, predictions)), tf.constant(counted))
    found = [Entities(tags(names, ids, counted), scheme_class).entities for ids in (labels, predictions)]
    expected = [len(set(t) & set(p)) for t, p in zip(*found)], map(len, found[1]), map(len, found[0])
    assert [int(v) for v in counts.values()] == [sum(part) for part in expected]
    assert int(counts["entities_true"]) > 500


def test_iob1_is_counted_as_seqeval_does():
    """There B- stands only between two entities of one type."""
    names = ["O", "I-X", "B-X", "I-Y"]
    labels = [[1, 1, 2, 1, 0, 3, 1, 0], [3, 3, 0, 1, 2, 2, 3, 0]]
    predictions = [[1, 1, 1, 1, 0, 3, 1, 0], [3, 3, 0, 1, 2, 1, 3, 0]]
    everywhere = np.ones_like(labels, bool)
    counts = EntityCounter(names)(*(tf.constant(a, tf.int32) for a in (labels, predictions)), tf.constant(everywhere))
    found = [Entities(tags(names, ids, everywhere), IOB1).entities for ids in (labels, predictions)]
    expected = [len(set(t) & set(p)) for t, p in zip(*found)], map(len, found[1]), map(len, found[0])
    assert [int(v) for v in counts.values()] == [sum(part) for part in expected] == [5, 7, 9]


def test_tags_that_mark_no_entities_have_the_metrics_of_classes():
    """As parts of speech; F1 and recall are scikit-learn's, over pooled batches."""
    names = ["ADJ", "NOUN", "VERB", "X"]
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, (2, 2, 40, 7))
    labels[generator.random(labels.shape) < 0.3] = models.IGNORED
    objective = models.token_classification(names)
    initialize, update, finalize = objective.metrics_fns
    state = initialize()
    for y, found in zip(labels, predictions):
        y, logits = tf.constant(y, tf.int32), tf.one_hot(found, len(names))
        output = tff.learning.models.BatchOutput(objective.loss_fn(logits, y), logits, None)
        state = update(state, y, output)
    metrics, where = finalize(state), labels != models.IGNORED
    assert set(metrics) == {metric.name for metric in objective.metrics}
    y, found = labels[where], predictions[where]
    assert float(metrics["accuracy"]) == pytest.approx(sklearn.metrics.accuracy_score(y, found))
    for average in ("macro", "weighted"):
        assert float(metrics[f"{average}_f1"]) == pytest.approx(sklearn.metrics.f1_score(y, found, average=average))
    assert float(metrics["macro_recall"]) == pytest.approx(sklearn.metrics.balanced_accuracy_score(y, found))


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (["O", "B-X", "I-X"], "BIO"),
        (["O", "I-X"], "BIO"),
        (["O", "B", "I"], "BIO"),
        (["O", "B-X", "E-X", "S-X"], "BIOES"),
        (["O", "U-X"], "BIOLU"),
        (["O", "X", "NOUN"], None),
        (["0", "1", "2"], None),
        (["B", "M", "E", "S"], None),
        (["Nom-Pl", "Gen-Sg"], None),
    ],
)
def test_the_scheme_is_told_from_the_tags(names, scheme):
    assert models.entity_scheme(names) == scheme


@pytest.mark.parametrize("bad", ["Disease", "o", "", "B_Disease", "X-Disease"])
def test_a_tag_outside_of_the_scheme_of_others_is_refused(bad):
    with pytest.raises(UserError, match=f"^label {bad!r} is not of the scheme that 'B-Disease' is of: every label"):
        models.token_classification(["O", "B-Disease", bad])


@pytest.mark.parametrize("kinds", [["X"], ["Disease", "Drug", "Gene"]])
def test_f1_of_each_type_is_seqevals(kinds):
    names, generator = scheme(kinds), np.random.default_rng(3)
    labels = generator.integers(0, len(names), (200, 9))
    predictions = np.where(
        generator.random(labels.shape) < 0.7, labels, generator.integers(0, len(names), labels.shape)
    )
    objective = models.token_classification(names)
    initialize, update, finalize = objective.metrics_fns
    output = tff.learning.models.BatchOutput(tf.constant(0.0), tf.one_hot(predictions, len(names)), 200)
    found = {k: float(v) for k, v in finalize(update(initialize(), tf.constant(labels, tf.int32), output)).items()}
    everything = np.ones_like(labels, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(
            tags(names, labels, everything), tags(names, predictions, everything), output_dict=True
        )
    assert found["f1"] == pytest.approx(report["micro avg"]["f1-score"], rel=1e-5)
    shown = {f"f1_{kind}" for kind in kinds if len(kinds) > 1}
    assert shown == {name for name in found if name.startswith("f1_")}
    assert shown == {metric.name for metric in objective.metrics if metric.name.startswith("f1_")}
    for kind in kinds if shown else ():
        assert found[f"f1_{kind}"] == pytest.approx(report[kind]["f1-score"], rel=1e-5)
