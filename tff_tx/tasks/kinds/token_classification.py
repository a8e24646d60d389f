"""Token classification: a tag for each word, such as of named entities or its part of speech."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kind import SEVERAL, TextTask
from tff_tx.tasks.recipe import PADDING, TextRecipe


class Recipe(TextRecipe):
    """One label a token."""

    pads = {"input_ids": PADDING, "labels": models.IGNORED}
    lengthwise = ("input_ids", "labels")

    def batch(self, features, seed):
        return self.tokens(features["input_ids"]), features["labels"]


class TokenClassification(TextTask):
    """Words with one tag each: cross-entropy; precision, recall and F1 of entities, or F1 over the tags."""

    name = "token_classification"
    title = "Token classification"
    example = f"a sentence, or a part of one that is too long: {SEVERAL}"
    auto_class = "TFAutoModelForTokenClassification"
    predictor = "tff_tx.inference.classes:EntityTagger"
    recipe_class = Recipe
    needs_label_names = True
    tagged = True
    capabilities = frozenset({"activation_cache", "class_probabilities", "classes", "silos"})

    def load_tokenizer(self, model):
        """The tokenizer, for single words."""
        return super().load_tokenizer(model, of_words=True)

    def encoder(self, facts):
        return datasets.TokenClassificationEncoder(facts.tokenizer, facts.label_names, facts.model.max_length)

    def objective(self, label_names, model):
        return models.token_classification(label_names)


TASK = TokenClassification()
