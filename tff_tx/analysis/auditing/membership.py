"""Membership inference: attacks that distinguish training data from other data by the model.

TensorFlow Privacy's attacks are not in its wheel (0.9.0 leaves out the package `privacy_tests`). These are two of them:
the loss as it is (Yeom et al. 2018, "Privacy risk in machine learning"), and a logistic regression on what the model
tells of an example (Shokri et al. 2017), trained and tried on different halves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from sklearn import linear_model, metrics, model_selection, pipeline, preprocessing

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)
"""Rates at which true positives are reported: an attack that is sure of few is a leak (Carlini et al. 2022)."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """Success of an attack that distinguishes members from non-members.

    Attributes:
      auc: Area under the ROC curve: the chance that a member's score is above a non-member's. 0.5 is guessing.
      standard_error: Standard error of the AUC (Hanley & McNeil 1982), as if the examples were independent.
      advantage: The largest difference of true and false positive rate (Yeom et al. 2018, definition 4).
      true_positive_rates: By false positive rate, the share of members recognized at that rate or below.
      members: Number of members.
      non_members: Number of non-members.
      roc: (false positive rates, true positive rates), for a plot.
    """

    auc: float
    standard_error: float
    advantage: float
    true_positive_rates: dict[float, float]
    members: int
    non_members: int
    roc: tuple[np.ndarray, np.ndarray] = dataclasses.field(repr=False, compare=False)

    def figures(self) -> dict:
        """Its figures, for JSON."""
        return {
            "auc": self.auc,
            "auc_standard_error": self.standard_error,
            "advantage": self.advantage,
            **{f"true_positive_rate_at_{rate:g}": value for rate, value in self.true_positive_rates.items()},
            "members": self.members,
            "non_members": self.non_members,
        }


def threshold_attack(member_losses: Sequence[float], other_losses: Sequence[float]) -> Attack:
    """Classifies those with a small loss as members.

    Args:
      member_losses: Losses of examples (or clients) that were trained on.
      other_losses: Losses of others.
    """
    return _attack(-np.asarray(member_losses, float), -np.asarray(other_losses, float))


def trained_attack(member_features: np.ndarray, other_features: np.ndarray, seed: int = 0, folds: int = 4) -> Attack:
    """A logistic regression, scored by cross-validation: no attacker scores what it was trained on.

    Args:
      member_features: [members, features], float.
      other_features: [others, features].
      seed: Seed of the folds.
      folds: Parts, each of which is scored by an attacker trained on the others. Scores of different folds are of
        different attackers, and so are replaced by their ranks within the fold.
    """
    features = np.concatenate([member_features, other_features]).astype(float)
    labels = np.concatenate([np.ones(len(member_features)), np.zeros(len(other_features))])
    attacker = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    splits = model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores = np.empty(len(labels))
    for train, test in splits.split(features, labels):
        found = attacker.fit(features[train], labels[train]).decision_function(features[test])
        scores[test] = (np.argsort(np.argsort(found, kind="stable"), kind="stable") + 0.5) / len(test)
    return _attack(scores[labels == 1], scores[labels == 0])


def _attack(members, others) -> Attack:
    if not len(members) or not len(others):
        raise ValueError(f"{len(members)} members and {len(others)} others are too few to compare.")
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    false, true, _ = metrics.roc_curve(labels, np.concatenate([members, others]), drop_intermediate=False)
    auc = float(metrics.auc(false, true))
    return Attack(
        auc=auc,
        standard_error=_standard_error(auc, len(members), len(others)),
        advantage=float(np.max(true - false)),
        true_positive_rates={rate: float(true[false <= rate].max()) for rate in FALSE_POSITIVE_RATES},
        members=len(members),
        non_members=len(others),
        roc=(false, true),
    )


def _standard_error(auc, members, others):
    both_above, both_below = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (members - 1) * (both_above - auc**2) + (others - 1) * (both_below - auc**2)) / (
        members * others
    )
    return float(np.sqrt(max(variance, 0.0)))
