"""Membership inference: scores of examples by the model, and attacks that tell training data from other data by them.

TensorFlow Privacy's attacks are not in its wheel (0.9.0 leaves out the package `privacy_tests`). These are two of them:
the loss as it is (Yeom et al. 2018, "Privacy risk in machine learning"), and a logistic regression on what the model
tells of an example (Shokri et al. 2017), trained and tried on different halves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import runtime
from tff_tx.models import IGNORED

FEATURES = ("loss", "entropy", "margin", "correct")
"""Means over an example's labelled items: cross-entropy and entropy in nats, the true class's logit over the best of
the others, and whether it is the largest."""

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
    from scipy import stats
    from sklearn import linear_model, model_selection, pipeline, preprocessing

    features = np.concatenate([member_features, other_features]).astype(float)
    labels = np.concatenate([np.ones(len(member_features)), np.zeros(len(other_features))])
    attacker = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    splits = model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    scores = np.empty(len(labels))
    for train, test in splits.split(features, labels):
        found = attacker.fit(features[train], labels[train]).decision_function(features[test])
        scores[test] = (stats.rankdata(found) - 0.5) / len(test)  # equal scores have equal ranks
    return _attack(scores[labels == 1], scores[labels == 0])


def _attack(members, others) -> Attack:
    from sklearn import metrics

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


class ExampleScorer:
    """Scores single examples by a model.

    Args:
      model: A `tff.learning.models.FunctionalModel` whose predictions are logits, [batch, classes] or [batch, length,
        classes].
      batch_spec: Structure of `tf.TensorSpec` of a batch (x, y).
    """

    def __init__(self, model: Any, batch_spec: Any):
        def step(weights, batch):
            x, y = batch
            return _features(model.predict_on_batch(weights, x, training=False), y)

        specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), model.initial_weights)
        self._step = runtime.step_function(step, specs, batch_spec, internal=True)

    def __call__(self, weights: Any, batches: tf.data.Dataset) -> np.ndarray:
        """The figures of each example of batches (x, y) by `ModelWeights`, float32 [examples, len(FEATURES)]."""
        parts = tuple(tuple(map(tf.convert_to_tensor, part)) for part in (weights.trainable, weights.non_trainable))
        scores = [self._step(parts, batch).numpy() for batch in batches]
        return np.concatenate(scores) if scores else np.zeros([0, len(FEATURES)], np.float32)

    def of_clients(
        self, weights: Any, batches_fn: Callable[[tf.Tensor], tf.data.Dataset], client_ids: list[str], max_examples: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The figures of clients' examples, client by client until there are enough.

        Returns:
          (all figures [examples, features], the means of each client [features]).
        """
        by_client, total = [], 0
        for client_id in client_ids:
            found = self(weights, batches_fn(tf.constant(client_id)))
            by_client.append(found)
            total += len(found)
            if total >= max_examples:
                break
        by_client = [found for found in by_client if len(found)]
        together = np.concatenate(by_client) if by_client else np.zeros([0, len(FEATURES)])
        return together[:max_examples], [found.mean(0) for found in by_client]


def _features(logits, labels):
    """[batch, features] of logits [batch, classes] or [batch, length, classes]."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape.rank == 2:
        logits, labels = logits[:, None], labels[:, None]
    counted = tf.not_equal(labels, IGNORED)
    labels = tf.where(counted, labels, 0)
    log_probabilities = tf.nn.log_softmax(logits)
    is_true = tf.one_hot(labels, tf.shape(logits)[-1], on_value=True, off_value=False)
    true = tf.reduce_sum(tf.where(is_true, log_probabilities, 0.0), -1)
    others = tf.reduce_max(tf.where(is_true, -np.inf, log_probabilities), -1)
    entropy = -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, -1)
    margin = true - others
    figures = tf.stack([-true, entropy, margin, tf.cast(margin > 0, tf.float32)], -1)
    counted = tf.cast(counted, tf.float32)[..., None]
    return tf.math.divide_no_nan(tf.reduce_sum(figures * counted, 1), tf.reduce_sum(counted, 1))
