"""Instruction tuning: the answers in conversations."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kind import TextTask
from tff_tx.tasks.recipe import PADDING, TextRecipe


class Recipe(TextRecipe):
    """The label of a token is the next one, where that is of an answer."""

    pads = {"input_ids": PADDING, "labels": models.IGNORED}
    lengthwise = ("input_ids", "labels")

    def batch(self, features, seed):
        return self.tokens(features["input_ids"][:, :-1]), features["labels"][:, 1:]


class InstructionTuning(TextTask):
    """Conversations, one an example: cross-entropy of the answers' tokens, ROUGE of generated answers."""

    name = "instruction_tuning"
    title = "Instruction tuning"
    auto_class = "TFAutoModelForCausalLM"
    predictor = "tff_tx.inference.language:Responder"
    recipe_class = Recipe
    score_metrics = (
        models.Metric("answer_exact_match", "Exact match of answers", plotted=False),
        models.Metric("rouge_1", "ROUGE-1", plotted=False),
        models.Metric("rouge_2", "ROUGE-2", plotted=False),
        models.Metric("rouge_l", "ROUGE-L"),
    )
    scored_columns = ("messages",)
    capabilities = frozenset({"activation_cache", "class_probabilities", "silos"})

    def encoder(self, facts):
        return datasets.ConversationEncoder(facts.tokenizer, facts.model.max_length + 1)

    def objective(self, label_names, model):
        return models.language_modeling(self.name)


TASK = InstructionTuning()
