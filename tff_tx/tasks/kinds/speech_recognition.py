"""Speech recognition: what is said in a recording, by CTC (wav2vec2, HuBERT) or by a decoder (Whisper)."""

from __future__ import annotations

import collections
import functools

import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import TextTask
from tff_tx.tasks.kinds import sequence_to_sequence
from tff_tx.tasks.kinds.audio_classification import RecordingTask
from tff_tx.tasks.recipe import IDS, RecordingRecipe


class CTCRecipe(RecordingRecipe):
    """The labels are how many frames the model makes of a recording, and the tokens of its transcript."""

    pads = {**RecordingRecipe.pads, "labels": models.IGNORED}

    def __init__(self, config):
        self._num_frames = functools.partial(models.num_frames, config)

    def batch(self, features, seed):
        x = self.recordings(features)
        frames = self._num_frames(tf.reduce_sum(x["attention_mask"], -1, keepdims=True))
        return x, tf.concat([frames, features["labels"]], 1)


class TranscriptionRecipe(RecordingRecipe):
    """The decoder reads the transcript one token late, as in `sequence_to_sequence`."""

    pads = {**RecordingRecipe.pads, "labels": models.IGNORED}
    lengthwise = ()

    def __init__(self, tokenizer, config):
        self._decoder = sequence_to_sequence.Recipe(tokenizer, config)
        self.pad_id = self._decoder.pad_id

    def inputs(self, element_spec):
        decoder = collections.OrderedDict(decoder_attention_mask=IDS, decoder_input_ids=IDS)
        return collections.OrderedDict(**decoder, **super().inputs(element_spec))

    def batch(self, features, seed):
        decoder = sorted(self._decoder.decoder_inputs(features["labels"]).items())
        return collections.OrderedDict(**dict(decoder), **self.recordings(features)), features["labels"]


class SpeechRecognition(RecordingTask, TextTask):
    """Recordings with transcripts: the loss of CTC or of the decoder's tokens, word and character error rate."""

    name = "speech_recognition"
    title = "Speech recognition"
    auto_class = "tff_tx.models.speech:TFAutoModelForSpeechRecognition"
    predictor = "tff_tx.inference.speech:Transcriber"
    limited_lengths = ()
    score_metrics = (
        models.Metric("wer", "Word error rate", higher_is_better=False),
        models.Metric("cer", "Character error rate", higher_is_better=False),
    )
    scored_columns = ("audio", "target")
    capabilities = frozenset({"silos"})

    def encoder(self, facts):
        model, config = facts.model, self.model_config(facts.model)
        if models.takes_samples(config):
            least, frames = models.least_samples(config), functools.partial(models.num_frames, config)
            return datasets.CTCEncoder(facts.processor, facts.tokenizer, model.max_seconds, least, frames)
        if model.max_target_length > config.max_target_positions:
            raise UserError(
                f"{setting('task.max_target_length')}={model.max_target_length} is more than the "
                f"{config.max_target_positions} positions of the model's decoder: lower it."
            )
        start = config.decoder_start_token_id if model.pretrained else datasets.start_and_end(facts.tokenizer)[0]
        return datasets.TranscriptionEncoder(
            facts.processor, facts.tokenizer, model.max_seconds, start, model.max_target_length
        )

    def recipe(self, tokenizer, num_labels, config):
        return CTCRecipe(config) if models.takes_samples(config) else TranscriptionRecipe(tokenizer, config)

    def objective(self, label_names, model):
        is_given = model.pretrained is not None or model.architecture is not None
        if is_given and not models.takes_samples(self.model_config(model)):
            return models.sequence_to_sequence(self.name)
        return models.ctc(self.load_tokenizer(model).pad_token_id if is_given else 0)

    def config_changes(self, facts):
        changes = super().config_changes(facts)
        if models.takes_samples(self.model_config(facts.model)):
            changes["pad_token_id"] = facts.tokenizer.pad_token_id  # the blank
        return changes

    def new_config(self, facts, train):
        fields = super().new_config(facts, train)
        if models.takes_samples(self.model_config(facts.model)):
            return fields
        fields["decoder_start_token_id"], fields["eos_token_id"] = datasets.start_and_end(facts.tokenizer)
        bins, frames = train.element_type_structure["input_features"].shape
        return {**fields, "num_mel_bins": bins, "max_source_positions": frames // 2, "begin_suppress_tokens": None}

    def check_config(self, config, element_spec):
        super().check_config(config, element_spec)
        shape = element_spec["input_features"].shape if "input_features" in element_spec else None
        if shape is not None and shape != (config.num_mel_bins, 2 * config.max_source_positions):
            raise UserError(
                f"the spectrograms are of {shape[0]} mel bins and {shape[1]} frames, the model takes "
                f"{config.num_mel_bins} and {2 * config.max_source_positions}: set num_mel_bins and "
                f"max_source_positions in {setting('model.config')}, or another {setting('task.max_seconds')}."
            )


TASK = SpeechRecognition()
