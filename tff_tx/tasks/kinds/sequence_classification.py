"""Sequence classification: one class a text."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kind import TextTask
from tff_tx.tasks.recipe import PADDING, TextRecipe


class Recipe(TextRecipe):
    """One label a text."""

    pads = {"input_ids": PADDING, "label": models.IGNORED}

    def batch(self, features, seed):
        return self.tokens(features["input_ids"]), features["label"]


class SequenceClassification(TextTask):
    """Texts with one label each: cross-entropy and accuracy."""

    name = "sequence_classification"
    title = "Sequence classification"
    auto_class = "TFAutoModelForSequenceClassification"
    predictor = "tff_tx.inference.classes:TextClassifier"
    recipe_class = Recipe
    needs_label_names = True
    trigger_feature = "input_ids"
    capabilities = frozenset({"activation_cache", "class_probabilities", "classes", "one_class", "silos"})

    def encoder(self, facts):
        return datasets.SequenceClassificationEncoder(facts.tokenizer, facts.label_names, facts.model.max_length)

    def objective(self, label_names, model):
        return models.classification(self.name)

    def config_changes(self, facts):
        """The padding token, where a checkpoint has none."""
        spec = facts.model
        if spec.pretrained is None or models.read_config(self.auto_class, spec.pretrained).pad_token_id is not None:
            return {}
        # GPT-2 and others look for a text's last token, which is before the padding if they know that.
        return {"pad_token_id": spec.config.get("pad_token_id", facts.tokenizer.pad_token_id)}


TASK = SequenceClassification()
