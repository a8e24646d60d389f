"""Metrics of classes that need all predictions together, and that no sums over clients give exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.special

_BINS = 15


def pooled_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """ROC AUC and average precision, each class against the others and the mean over those for which both occur.

    Of two classes they are those of the second. The Brier score (Brier 1950) is the mean over examples of the sum over
    classes of squared errors, of independent labels the mean over labels too; the expected calibration error (Guo et
    al. 2017, https://arxiv.org/abs/1706.04599) has 15 bins of the probability of what is predicted.

    Args:
      logits: float [examples, classes].
      labels: int [examples], or of independent labels [examples, labels] of 0 and 1.
    """
    from sklearn import metrics

    several = labels.ndim == 2
    true = labels if several else np.eye(logits.shape[1], dtype=np.int64)[labels]
    logits = logits.astype(np.float64)
    found = scipy.special.expit(logits) if several else scipy.special.softmax(logits, axis=1)
    if not np.isfinite(found).all():  # of a model that has diverged
        return dict.fromkeys(("roc_auc", "average_precision", "brier", "ece"), np.nan)
    pairs = list(zip(true.T, found.T))[1 if not several and logits.shape[1] == 2 else 0 :]
    pairs = [(y, p) for y, p in pairs if 0 < y.sum() < len(y)]
    mean = {
        name: float(np.mean([metric(*pair) for pair in pairs])) if pairs else 0.0
        for name, metric in (("roc_auc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score))
    }
    squares = np.square(found - true)
    brier = squares.mean() if several else squares.sum(axis=1).mean()
    sure = np.maximum(found, 1 - found).ravel() if several else found.max(axis=1)
    right = ((found >= 0.5) == true).ravel() if several else found.argmax(axis=1) == labels
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=right - sure, minlength=_BINS)
    return {**mean, "brier": float(brier), "ece": float(np.abs(gaps).sum() / len(sure))}


def by_class(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and examples of each class, and the confusion matrix: a row a true class.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      names: Of the classes.
    """
    from sklearn import metrics

    predicted, numbers = logits.argmax(axis=1), range(len(names))
    scores = metrics.precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "examples"), scores)), index=names)
    confusion = metrics.confusion_matrix(labels, predicted, labels=numbers)
    return table.join(pd.DataFrame(confusion, index=names, columns=[f"as {name}" for name in names]))
