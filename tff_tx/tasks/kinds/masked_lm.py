"""Masked language modeling: tokens that are hidden (BERT, Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import SEVERAL, TextTask
from tff_tx.tasks.recipe import TextRecipe

_BYTES_MASK = "<mask>"
"""The byte tokenizer has no mask token of its own: ByT5 needs none."""


class Recipe(TextRecipe):
    """Masks as in BERT (Devlin et al. 2019, section 3.1).

    Each token but special ones is chosen with probability 0.15 and becomes the mask token (80 %), a random token (10 %)
    or stays (10 %); the labels are the chosen tokens as they were. Masks are fresh in every epoch and round.
    """

    def __init__(self, tokenizer, rate: float = 0.15):
        super().__init__(tokenizer)
        self._rate, self._mask_id = rate, tokenizer.mask_token_id
        self._vocabulary = len(tokenizer)
        self._special_ids = np.array(sorted(set(tokenizer.all_special_ids)), np.int32)

    def batch(self, features, seed):
        x = self.tokens(features["input_ids"])
        ids = x["input_ids"]
        draws = tf.random.stateless_uniform([2, *tf.unstack(tf.shape(ids))], seed)
        random_ids = tf.random.stateless_uniform(tf.shape(ids), seed + 1, 0, self._vocabulary, tf.int32)
        special = tf.reduce_any(tf.equal(ids[..., tf.newaxis], self._special_ids), -1)
        chosen = (draws[0] < self._rate) & ~special & tf.equal(x["attention_mask"], 1)
        x["input_ids"] = tf.where(
            chosen & (draws[1] < 0.8),
            self._mask_id,
            tf.where(chosen & (draws[1] >= 0.9), random_ids, ids),
        )
        return x, tf.where(chosen, ids, models.IGNORED)


class MaskedLM(TextTask):
    """Blocks of text: cross-entropy and perplexity of hidden tokens."""

    name = "masked_lm"
    title = "Masked language modeling"
    example = f"a block of a client's joined texts, and no whole text: {SEVERAL}"
    auto_class = "TFAutoModelForMaskedLM"
    predictor = "tff_tx.inference.language:MaskFiller"
    recipe_class = Recipe
    capabilities = frozenset({"class_probabilities", "silos", "texts"})

    def load_tokenizer(self, model):
        """A tokenizer with a mask token."""
        tokenizer, name = super().load_tokenizer(model), model.tokenizer or model.pretrained
        if name == "bytes":
            tokenizer.add_special_tokens({"mask_token": _BYTES_MASK})
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"{setting('model.tokenizer')}={name} has no mask token, which {self.name} needs: choose one that "
                f"has, or train "
                "causal_lm."
            )
        return tokenizer

    def encoder(self, facts):
        return datasets.LanguageModelingEncoder(facts.tokenizer, facts.model.max_length, masked=True)

    def objective(self, label_names, model):
        return models.language_modeling(self.name)


TASK = MaskedLM()
