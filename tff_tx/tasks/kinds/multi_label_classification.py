"""Multi-label classification: any number of labels a text."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kinds.sequence_classification import SequenceClassification


class MultiLabelClassification(SequenceClassification):
    """Texts with several labels each: sigmoid cross-entropy, micro and macro F1."""

    name = "multi_label_classification"
    title = "Multi-label classification"
    predictor = "tff_tx.inference.classes:MultiLabelClassifier"
    trigger_feature = None
    capabilities = frozenset({"activation_cache", "silos", "text_pairs", "thresholds"})
    encoder_class = datasets.MultiLabelEncoder

    def objective(self, label_names, model):
        trained = model.pretrained and models.read_config(self.auto_class, model.pretrained)
        thresholds = getattr(trained, "thresholds", None) or ()
        return models.multi_label(
            self.name, len(label_names), thresholds if len(thresholds) == len(label_names) else None
        )

    def config_changes(self, facts):
        return {**super().config_changes(facts), "problem_type": self.name}


TASK = MultiLabelClassification()
