"""Instruction tuning: the answers in conversations."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import SEVERAL, TextTask
from tff_tx.tasks.kinds import sequence_to_sequence
from tff_tx.tasks.recipe import IDS, PADDING, TextRecipe


class Recipe(TextRecipe):
    """The label of a token is the next one, where that is of an answer."""

    # Padding follows the last conversation of a pack; 0 would begin another one.
    pads = {"input_ids": PADDING, "labels": models.IGNORED, "position_ids": 1}
    lengthwise = ("input_ids", "labels", "position_ids")

    def inputs(self, element_spec):
        positions = {"position_ids": IDS} if "position_ids" in element_spec else {}
        return super().inputs(element_spec) | positions

    def batch(self, features, seed):
        x = self.tokens(features["input_ids"][:, :-1])
        if "position_ids" in features:
            x["position_ids"] = features["position_ids"][:, :-1]
        return x, features["labels"][:, 1:]


class InstructionTuning(TextTask):
    """Conversations: cross-entropy of the answers' tokens, ROUGE of generated answers.

    An example is a conversation, or several that are packed, or of models with an encoder and a decoder an answer and
    what was said before.
    """

    name = "instruction_tuning"
    title = "Instruction tuning"
    example = f"a conversation, or of models with an encoder an answer in one, in which case {SEVERAL}"
    auto_class = "tff_tx.models.writers:TFAutoModelForWriting"
    predictor = "tff_tx.inference.language:Responder"
    score_metrics = (
        models.Metric("answer_exact_match", "Exact match of answers", plotted=False),
        *sequence_to_sequence.TASK.score_metrics,
    )
    scored_columns = ("messages",)
    capabilities = frozenset({"activation_cache", "class_probabilities", "packs", "silos"})

    def encoder(self, facts):
        config, lengths = self._planned(facts.model), facts.model
        if lengths.packing and config.model_type not in models.PACKABLE:
            raise UserError(
                f"{setting('task.packing')}: a {config.model_type} model does not keep the texts of an example apart; "
                f"remove it, or choose one of the types {', '.join(models.PACKABLE)}."
            )
        limit = models.max_positions(config)
        if config.is_encoder_decoder and limit is not None and lengths.max_target_length > limit:
            raise UserError(
                f"{setting('task.max_target_length')}={lengths.max_target_length} is more than the {limit} positions "
                "of the model: lower it."
            )
        return self.encoder_of(config, facts)

    def encoder_of(self, config, facts):
        """The encoder for a model of a configuration."""
        lengths = facts.model
        if config.is_encoder_decoder:
            return datasets.AnswerEncoder(facts.tokenizer, lengths.max_length, lengths.max_target_length)
        return datasets.ConversationEncoder(facts.tokenizer, lengths.max_length + 1, lengths.packing)

    def recipe(self, tokenizer, num_labels, config):
        if config is not None and config.is_encoder_decoder:
            return sequence_to_sequence.Recipe(tokenizer, config)
        return Recipe(tokenizer)

    def objective(self, label_names, model):
        if self._planned(model).is_encoder_decoder:
            return models.sequence_to_sequence(self.name)
        return models.language_modeling(self.name)

    def new_config(self, facts, train):
        fields = super().new_config(facts, train)
        if self._planned(facts.model).is_encoder_decoder:
            fields["decoder_start_token_id"], fields["eos_token_id"] = datasets.start_and_end(facts.tokenizer)
        return fields

    def _planned(self, model):
        # Where there is no model yet, as for a look at the data, a causal one.
        architecture = model.architecture or "gpt2"
        return models.planned_config(self.auto_class, model.pretrained, architecture, model.config)


TASK = InstructionTuning()
