"""What crosses the cut tells of labels and of features: attacks by those who receive it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import linear_model, metrics, preprocessing


def labels_from_norms(gradients: np.ndarray, labels: np.ndarray) -> float:
    """AUC with which the norm of a row's gradient tells its class, of the better direction.

    Rare classes have the longer gradients (Li et al. 2021, https://arxiv.org/abs/2102.08504, section 3.1).

    Args:
      gradients: float [rows, ...], as a feature party received them.
      labels: int [rows]; of more than two classes the mean over each against the others.
    """
    return _auc(lambda of: np.linalg.norm(_flat(gradients), axis=1), labels)


def labels_from_directions(batches: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """AUC with which the direction of a row's gradient tells its class, to who knows the class of one row a batch.

    The score is the cosine with the gradient of that row (Li et al. 2021, section 3.2), the first of the class.

    Args:
      batches: float [rows, ...] of each batch.
      labels: int [rows] of each.
    """
    found = []
    for gradients, classes in zip(batches, labels):
        flat = _flat(gradients)
        flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        for of in _classes(classes):
            is_of = classes == of
            clue, rest = np.argmax(is_of), np.arange(len(classes)) != np.argmax(is_of)
            if is_of[rest].any() and not is_of[rest].all():
                found.append(metrics.roc_auc_score(is_of[rest], flat[rest] @ flat[clue]))
    return float(np.mean(found)) if found else 0.5


def labels_from_activations(activations: np.ndarray, labels: np.ndarray, known: int = 40) -> float:
    """AUC with which a feature party that knows few labels completes its bottom to a classifier of the others.

    Model completion (Fu et al. 2022, "Label inference attacks against vertical federated learning", USENIX Security),
    here a logistic regression on the trained bottom's activations.

    Args:
      activations: float [rows, ...], of the party's own bottom.
      labels: int [rows].
      known: Number of rows whose labels the party knows, the first.
    """
    if len(np.unique(labels[:known])) < 2:
        return 0.5
    flat = preprocessing.StandardScaler().fit_transform(_flat(activations))
    model = linear_model.LogisticRegression(max_iter=500).fit(flat[:known], labels[:known])
    places = {of: column for column, of in enumerate(model.classes_)}
    scores = model.predict_proba(flat[known:])
    absent = np.zeros(len(scores))
    return _auc(lambda of: scores[:, places[of]] if of in places else absent, labels[known:], both_ways=False)


def features_from_activations(activations: np.ndarray, features: np.ndarray, known: int = 100) -> float:
    """Share of the features' variance that the label party reconstructs, R^2 over all numbers; 0 at least.

    The attacker knows the features of some rows and fits a ridge regression from activations to them.

    Args:
      activations: float [rows, ...], as the label party received them.
      features: float [rows, ...].
      known: Number of rows whose features it knows, the first.
    """
    flat, wanted = (preprocessing.StandardScaler().fit_transform(_flat(a)) for a in (activations, features))
    model = linear_model.Ridge(1.0).fit(flat[:known], wanted[:known])
    return r_squared(wanted[known:], model.predict(flat[known:]))


def r_squared(wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of the variance of float [rows, numbers] that predictions have, over all numbers that vary; 0 at least."""
    varying = wanted.std(axis=0) > 0
    return max(0.0, float(metrics.r2_score(wanted[:, varying], found[:, varying], multioutput="variance_weighted")))


def _auc(score_fn, labels, both_ways=True):
    found = []
    for of in _classes(labels):
        if 0 < np.sum(labels == of) < len(labels):
            auc = metrics.roc_auc_score(labels == of, score_fn(of))
            found.append(max(auc, 1 - auc) if both_ways else auc)
    return float(np.mean(found)) if found else 0.5


def _classes(labels):
    """The classes that are told from the others: of two, the second alone."""
    found = np.unique(labels)
    return found[1:] if len(found) == 2 else found


def _flat(arrays):
    return np.asarray(arrays, np.float64).reshape(len(arrays), -1)
