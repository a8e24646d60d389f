"""Weights of classes, focal loss, and metrics of unequal classes, against scikit-learn's and the formulas."""

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, models
from tff_tx.config import RunConfig, check
from tff_tx.core.errors import UserError

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.choice(4, 60, p=[0.7, 0.2, 0.1, 0.0]).astype(np.int32)
LOGITS = (GENERATOR.normal(size=(60, 4)) + np.eye(4)[LABELS]).astype(np.float32)
FOUND = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)


def test_the_loss_weights_classes_and_what_is_predicted_badly():
    own = FOUND[np.arange(60), LABELS]
    weights, gamma = np.array([0.5, 2.0, 4.0, 1.0]), 2.0
    for found, expected in (
        (models.rebalanced(models.classification()), -np.log(own)),
        (models.rebalanced(models.classification(), weights), -weights[LABELS] * np.log(own)),
        (models.rebalanced(models.classification(), None, gamma), -((1 - own) ** gamma) * np.log(own)),
        (models.rebalanced(models.classification(), weights, 1.0), -weights[LABELS] * (1 - own) * np.log(own)),
    ):
        assert float(found.loss_fn(LOGITS, LABELS)) == pytest.approx(expected.mean(), rel=1e-5)
        ignored = found.loss_fn(tf.repeat(LOGITS, 2, 0), np.stack([LABELS, np.full(60, models.IGNORED)], 1).ravel())
        assert float(ignored) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_focal_loss_has_a_gradient_where_the_prediction_is_certain(gamma):
    logits = tf.Variable([[40.0, -40.0], [-40.0, 40.0]])
    with tf.GradientTape() as tape:
        loss = models.rebalanced(models.classification(), None, gamma).loss_fn(logits, tf.constant([0, 0]))
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


def test_sums_over_batches_give_scikit_learns_f1_and_recall():
    objective = models.classification("x", 4)
    initialize, update, finalize = objective.metrics_fns
    state = initialize()
    for y, logits in zip(np.split(LABELS, 5), np.split(LOGITS, 5)):
        loss = objective.loss_fn(logits, y)
        state = update(state, y, tff.learning.models.BatchOutput(loss, tf.constant(logits), None))
    metrics, predicted = {name: float(value) for name, value in finalize(state).items()}, LOGITS.argmax(1)
    assert set(metrics) == {metric.name for metric in objective.metrics}
    for average in ("macro", "weighted"):
        expected = sklearn.metrics.f1_score(LABELS, predicted, average=average)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    seen = sklearn.metrics.recall_score(LABELS, predicted, average="macro", labels=np.unique(LABELS))
    assert metrics["macro_recall"] == pytest.approx(seen)


def test_metrics_of_all_predictions_are_scikit_learns():
    found = models.pooled_metrics(LOGITS, LABELS)
    true, there = np.eye(4)[LABELS], np.unique(LABELS)
    aucs = [sklearn.metrics.roc_auc_score(true[:, c], FOUND[:, c]) for c in there]
    precisions = [sklearn.metrics.average_precision_score(true[:, c], FOUND[:, c]) for c in there]
    assert found["roc_auc"] == pytest.approx(np.mean(aucs))
    assert found["average_precision"] == pytest.approx(np.mean(precisions))
    binary = LOGITS[:, :2], np.minimum(LABELS, 1)
    first, second = models.pooled_metrics(*binary), scipy.special.softmax(binary[0].astype(float), 1)[:, 1]
    assert first["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(binary[1], second))
    assert first["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(binary[1], second))
    assert first["brier"] == pytest.approx(2 * sklearn.metrics.brier_score_loss(binary[1], second))
    several = LOGITS[:, :3], true[:, :3].astype(np.int32)
    both = models.pooled_metrics(*several)
    scores = scipy.special.expit(several[0])
    assert both["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(several[1], scores))
    assert both["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(several[1], scores))
    assert models.pooled_metrics(LOGITS, LABELS * 0)["roc_auc"] == 0, "of one class there is none"


def test_calibration_error_is_the_gap_between_certainty_and_accuracy():
    """All certain to 0.8, and right in 6 of 10: 0.2."""
    logits = np.log(np.tile([0.8, 0.2], (10, 1)))
    labels = np.array([0] * 6 + [1] * 4)
    assert models.pooled_metrics(logits, labels)["ece"] == pytest.approx(0.2)


def test_each_class_has_a_row_with_its_confusions():
    table = models.by_class(LOGITS, LABELS, ("a", "b", "c", "d"))
    predicted = LOGITS.argmax(1)
    expected = sklearn.metrics.recall_score(LABELS, predicted, average=None, labels=range(4), zero_division=0)
    assert table["recall"].to_numpy() == pytest.approx(expected)
    assert table.loc["a", "as b"] == np.sum((LABELS == 0) & (predicted == 1))
    assert table["examples"].to_list() == np.bincount(LABELS, minlength=4).tolist()


def test_counts_of_classes_are_added_up_over_clients(cache_dir, tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"t,{'ab'[n % 3 == 0]}\n" for n in range(30)))
    data = datasets.DataSpec(
        "file", files=(str(tmp_path / "x.csv"),), num_clients=3, test_fraction=0.0, cache_dir=cache_dir
    )
    encoder = datasets.SequenceClassificationEncoder(models.load_tokenizer("bytes"), ("a", "b"), 8)
    train = datasets.load(data, encoder, progress=False).train
    assert datasets.federated_class_counts(train, 3).tolist() == [20, 10, 0]


PRIVATE = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0, "data.label_names": ("a", "b")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task.balance_classes": True, **PRIVATE}, "a private run cannot find out frequencies of classes"),
        ({"task.balance_classes": True, "task.class_weights": {"a": 2}}, "both weight the classes"),
        ({"task.class_weights": {"a": -1}}, "every weight must be a number above 0"),
        ({"task.focal_gamma": 1.0, "task.kind": "sequence_regression"}, "its labels are no classes"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    config = RunConfig().replace(
        {"task.kind": "sequence_classification", "data.dataset": "file", "data.files": ("x.csv",), **changes}
    )
    with pytest.raises(UserError, match=message):
        check(config)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_of_a_diverged_model_have_no_metrics(value):
    for labels in (np.array([0, 1, 1]), np.array([[0, 1], [1, 1], [0, 0]])):
        found = models.objectives.pooled.pooled_metrics(np.array([[0, 1], [value, value], [1, 0]]), labels)
        assert len(found) == 4
        assert all(np.isnan(each) for each in found.values()) == (np.isnan(value) or labels.ndim == 1)
