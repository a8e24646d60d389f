"""Extractive question answering: the span of a context that answers a question, or none."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.tasks.kind import SEVERAL, TextTask
from tff_tx.tasks.recipe import IDS, PADDING, TextRecipe


class Recipe(TextRecipe):
    """A question with its context; the labels of a token are whether the answer starts, and whether it ends there."""

    pads = {"input_ids": PADDING, "token_type_ids": 0, "starts": models.IGNORED, "ends": models.IGNORED}
    lengthwise = tuple(pads)

    def __init__(self, tokenizer, config):
        super().__init__(tokenizer)
        self._has_segments = models.has_segments(config)

    def inputs(self, element_spec):
        names = ("attention_mask", "input_ids", *(("token_type_ids",) if self._has_segments else ()))
        return collections.OrderedDict((name, IDS) for name in names)

    def batch(self, features, seed):
        x = self.tokens(features["input_ids"])
        if self._has_segments:
            x["token_type_ids"] = features["token_type_ids"]
        return x, tf.stack([features["starts"], features["ends"]], axis=-1)


class QuestionAnswering(TextTask):
    """Questions with contexts: cross-entropies of the first and the last token of answers."""

    name = "question_answering"
    title = "Question answering"
    example = f"a question with a window of its context, and no whole record: windows overlap, and {SEVERAL}"
    auto_class = "TFAutoModelForQuestionAnswering"
    predictor = "tff_tx.inference.texts.answering:QuestionAnswerer"
    score_metrics = (
        models.Metric("text_exact_match", "Exact match of words", plotted=False),
        models.Metric("text_f1", "F1 of words"),
    )
    scored_columns = ("question", "context", "answers")

    def encoder(self, facts):
        return datasets.QuestionAnsweringEncoder(facts.tokenizer, facts.model.max_length, facts.model.context_overlap)

    def recipe(self, tokenizer, num_labels, config):
        return Recipe(tokenizer, config)

    def objective(self, label_names, model):
        return models.question_answering(model.max_answer_length)

    def config_changes(self, facts):
        """The logits of starts and of ends, whatever a checkpoint was a classifier of."""
        return {"num_labels": 2}


TASK = QuestionAnswering()
