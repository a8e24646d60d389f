"""Sequence classification: one class a text."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kind import TextTask
from tff_tx.tasks.recipe import IDS, PADDING, TextRecipe


class Recipe(TextRecipe):
    """One label a text, or a pair of texts, with segments if the model separates them."""

    pads = {"input_ids": PADDING, "token_type_ids": 0, "label": models.IGNORED}
    lengthwise = ("input_ids", "token_type_ids")

    def __init__(self, tokenizer, config):
        super().__init__(tokenizer)
        self._has_segments = config is not None and models.has_segments(config)

    def inputs(self, element_spec):
        x_spec = super().inputs(element_spec)
        if self._has_segments and "token_type_ids" in element_spec:
            x_spec["token_type_ids"] = IDS
        return x_spec

    def batch(self, features, seed):
        x = self.tokens(features["input_ids"])
        if self._has_segments and "token_type_ids" in features:
            x["token_type_ids"] = features["token_type_ids"]
        return x, features["label"]


class SequenceClassification(TextTask):
    """Texts with one label each: cross-entropy, accuracy, F1 and recall over classes."""

    name = "sequence_classification"
    title = "Sequence classification"
    auto_class = "TFAutoModelForSequenceClassification"
    predictor = "tff_tx.inference.classes:TextClassifier"
    needs_label_names = True
    trigger_feature = "input_ids"
    encoder_class = datasets.SequenceClassificationEncoder
    capabilities = frozenset({"activation_cache", "class_probabilities", "classes", "one_class", "silos", "text_pairs"})

    def encoder(self, facts):
        number = len(facts.data.text_column)
        join = (facts.data.text_join or ("pair" if number == 2 else "separator")) if number > 1 else None
        return self.encoder_class(
            facts.tokenizer, facts.label_names, facts.model.max_length, None if join == "blank" else join
        )

    def recipe(self, tokenizer, num_labels, config):
        return Recipe(tokenizer, config)

    def objective(self, label_names, model):
        return models.classification(self.name, len(label_names))

    def config_changes(self, facts):
        """The tokenizer's padding token, where the model looks for a text's last token, which is before that."""
        spec = facts.model
        if spec.pretrained is None or not models.ends_at_padding(models.read_config(self.auto_class, spec.pretrained)):
            return {}
        return {"pad_token_id": spec.config.get("pad_token_id", facts.tokenizer.pad_token_id)}


TASK = SequenceClassification()
