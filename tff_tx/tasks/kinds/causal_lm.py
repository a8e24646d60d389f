"""Causal language modeling: the next token of a text."""

from __future__ import annotations

import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.tasks.kind import SEVERAL, TextTask
from tff_tx.tasks.recipe import PADDING, TextRecipe


class Recipe(TextRecipe):
    """The label of a token is the next one."""

    def batch(self, features, seed):
        ids, following = features["input_ids"][:, :-1], features["input_ids"][:, 1:]
        labels = tf.where(tf.equal(following, PADDING), models.IGNORED, following)
        return self.tokens(ids), labels


class CausalLM(TextTask):
    """Blocks of text: cross-entropy and perplexity of the next token."""

    name = "causal_lm"
    title = "Causal language modeling"
    example = f"a block of a client's joined texts, and no whole text: {SEVERAL}"
    auto_class = "TFAutoModelForCausalLM"
    predictor = "tff_tx.inference.language:Continuer"
    recipe_class = Recipe
    capabilities = frozenset({"activation_cache", "class_probabilities", "silos", "texts"})

    def encoder(self, facts):
        # Inputs and labels are the block without its last and its first token.
        return datasets.LanguageModelingEncoder(facts.tokenizer, facts.model.max_length + 1)

    def objective(self, label_names, model):
        return models.language_modeling(self.name)


TASK = CausalLM()
