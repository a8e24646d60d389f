"""Sequence regression: one number a text, such as a rating, or a pair of texts, such as their similarity."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kinds.sequence_classification import SequenceClassification


class SequenceRegression(SequenceClassification):
    """Texts with one number each: squared error, mean absolute error and correlations."""

    name = "sequence_regression"
    title = "Sequence regression"
    predictor = "tff_tx.inference.classes:TextRegressor"
    needs_label_names = False
    trigger_feature = None
    capabilities = frozenset({"activation_cache", "silos", "text_pairs"})
    encoder_class = datasets.SequenceRegressionEncoder

    def objective(self, label_names, model):
        return models.regression(self.name)

    def config_changes(self, facts):
        """One output, whatever a checkpoint was a classifier of."""
        return {**super().config_changes(facts), "num_labels": 1, "problem_type": "regression"}


TASK = SequenceRegression()
