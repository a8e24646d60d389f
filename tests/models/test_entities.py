"""Entity counts against seqeval 1.2.2, which computes them from lists of tags."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities

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


@pytest.mark.parametrize("bad", ["S-Disease", "E-Disease", "Disease", "o", "", "B_Disease"])
def test_another_scheme_is_refused(bad):
    with pytest.raises(UserError) as error:
        models.token_classification(["O", "B-Disease", bad])
    assert str(error.value) == (
        f"label {bad!r} is not in the IOB2 scheme, in which every label is O, B-TYPE or I-TYPE: "
        "convert the tags of the data."
    )
