"""What is said of metrics, against the metrics."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import models

TAGS = ("O", "B-X", "I-X")
CONSTANT = ("last_value_",)
"""How metrics begin that predictions do not change."""


def classes(objective, rank):
    labels = np.random.default_rng(rank).integers(0, len(TAGS), (6, 5)[:rank]).astype(np.int32)
    return objective, labels, 5 * np.eye(3, dtype=np.float32)[labels], 5 * np.eye(3, dtype=np.float32)[(labels + 1) % 3]


def series():
    labels = np.random.default_rng(0).normal(size=[4, 1 + 6]).astype(np.float32)
    return models.forecasting((3, 6)), labels, labels[:, 1:], labels[:, 1:] + 1


def ranks():
    first = np.zeros([3, 2, 20], np.float32)
    first[..., 0] = 1
    return models.next_item(), np.zeros([3, 2], np.int32), first, -first


def spans():
    labels = np.zeros([2, 8, 2], np.int32)
    labels[:, 2, 0] = labels[:, 4, 1] = 1
    return models.question_answering(), labels, 5.0 * labels, 5.0 * labels[:, ::-1]


CASES = {
    "classification": lambda: classes(models.classification(), 1),
    "language_modeling": lambda: classes(models.language_modeling("causal_lm"), 2),
    "sequence_to_sequence": lambda: classes(models.sequence_to_sequence(), 2),
    "token_classification": lambda: classes(models.token_classification(TAGS), 2),
    "forecasting": series,
    "next_item": ranks,
    "question_answering": spans,
}


def evaluated(objective, labels, predictions):
    initialize, update, finalize = objective.metrics_fns
    labels, predictions = tf.constant(labels), tf.constant(predictions, tf.float32)
    loss = objective.loss_fn(predictions, labels)
    output = tff.learning.models.BatchOutput(loss=loss, predictions=predictions, num_examples=None)
    return {name: float(value) for name, value in finalize(update(initialize(), labels, output)).items()}


@pytest.mark.parametrize("case", CASES)
def test_better_predictions_have_better_metrics(case):
    objective, labels, good, bad = CASES[case]()
    better, worse = evaluated(objective, labels, good), evaluated(objective, labels, bad)
    assert {metric.name for metric in objective.metrics} == set(better)
    assert len({metric.title for metric in objective.metrics}) == len(better)
    for metric in objective.metrics:
        found = better[metric.name], worse[metric.name]
        if metric.higher_is_better is None or metric.name.startswith(CONSTANT):
            assert found[0] == found[1], metric
        else:
            assert (found[0] > found[1]) == metric.higher_is_better, metric
            assert found[0] != found[1], metric
