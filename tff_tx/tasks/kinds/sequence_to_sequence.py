"""Sequence to sequence: a text that is made of a text, such as its summary."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import TextTask
from tff_tx.tasks.recipe import IDS, PADDING, TextRecipe


class Recipe(TextRecipe):
    """A text and its target: the decoder reads the target one token late, and its label is the token to come.

    Its input begins with the token that the model starts decoding with (Raffel et al. 2020, section 2.1; so the code of
    T5 and of its like).
    """

    pads = {"input_ids": PADDING, "labels": models.IGNORED}

    def __init__(self, tokenizer, config):
        super().__init__(tokenizer)
        self._start_id = config.decoder_start_token_id
        if self._start_id is None:
            raise UserError(
                f"the {config.model_type} model has no decoder_start_token_id, with which its targets would begin: set "
                f'it in {setting("model.config")}, such as {{"decoder_start_token_id": 0}}.'
            )

    def inputs(self, element_spec):
        names = ("attention_mask", "decoder_attention_mask", "decoder_input_ids", "input_ids")
        return collections.OrderedDict((name, IDS) for name in names)

    def batch(self, features, seed):
        x = {**self.tokens(features["input_ids"]), **self.decoder_inputs(features["labels"])}
        return collections.OrderedDict(sorted(x.items())), features["labels"]

    def decoder_inputs(self, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """`decoder_input_ids` and `decoder_attention_mask`, both int32 as `labels`."""
        late = tf.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=self._start_id)
        decoder = self.tokens(tf.where(tf.equal(late, models.IGNORED), PADDING, late))
        return {f"decoder_{name}": value for name, value in decoder.items()}


class SequenceToSequence(TextTask):
    """Texts with targets: cross-entropy and perplexity of their tokens, ROUGE of what is generated."""

    name = "sequence_to_sequence"
    title = "Sequence to sequence"
    auto_class = "TFAutoModelForSeq2SeqLM"
    predictor = "tff_tx.inference.texts.generation:Writer"
    limited_lengths = ("max_length", "max_target_length")
    score_metrics = (
        models.Metric("rouge_1", "ROUGE-1", plotted=False),
        models.Metric("rouge_2", "ROUGE-2", plotted=False),
        models.Metric("rouge_l", "ROUGE-L"),
    )
    scored_columns = ("text", "target")
    capabilities = frozenset({"activation_cache", "class_probabilities", "silos"})

    def encoder(self, facts):
        model = facts.model
        return datasets.SequenceToSequenceEncoder(facts.tokenizer, model.max_length, model.max_target_length)

    def recipe(self, tokenizer, num_labels, config):
        return Recipe(tokenizer, config)

    def objective(self, label_names, model):
        return models.sequence_to_sequence()

    def new_config(self, facts, train):
        start, end = datasets.start_and_end(facts.tokenizer)
        return {**super().new_config(facts, train), "decoder_start_token_id": start, "eos_token_id": end}


TASK = SequenceToSequence()
