"""Classes of recordings, and what is said in them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf
from transformers import TFGenerationMixin

from tff_tx import models, tasks
from tff_tx.inference.classes import most_likely
from tff_tx.inference.media import MediaPredictor, file_name
from tff_tx.inference.predictor import stacked


class RecordingPredictor(MediaPredictor):
    """Predicts from recordings: paths or bytes of audio files, `tff_tx.datasets.Recording`s, or tables with such."""

    record_column, media = "audio", "recordings"

    @functools.cached_property
    def _encoder(self):
        spec = self.spec
        if isinstance(self._model, str):
            spec = dataclasses.replace(spec, pretrained=self._model, architecture=None, config={})
        tokenizer = self.tokenizer if self.definition.needs_tokenizer else None
        return self.definition.encoder(
            tasks.Facts(self.data, spec, tokenizer, processor=self.definition.load_processor(spec))
        )

    def _inputs(self, recordings: Sequence) -> dict[str, tf.Tensor]:
        """A batch, padded as in training."""
        examples = [
            self._encoder.input(recording, recording if isinstance(recording, str) else "the input")
            for recording in recordings
        ]
        if "input_features" in examples[0]:
            return {"input_features": tf.stack([example["input_features"] for example in examples])}
        values = [example["input_values"] for example in examples]
        found = {
            "input_values": stacked(values, 0),
            "attention_mask": stacked([np.ones(len(v), np.int32) for v in values], 0),
        }
        return {name: tf.constant(value) for name, value in found.items()}


class RecordingClassifier(RecordingPredictor):
    """The most likely classes of recordings."""

    def predict_batch(self, inputs):
        logits = models.call_padded(self.model, self._inputs(inputs)).logits
        for recording, row in zip(inputs, logits):
            yield {**file_name(recording), **most_likely(row, self.model.config, self.options.top_k)}


class Transcriber(RecordingPredictor):
    """What is said in recordings."""

    def predict_batch(self, inputs):
        for recording, said in zip(inputs, self._said(inputs)):
            yield {**file_name(recording), "transcript": said}

    def _said(self, recordings) -> list[str]:
        batch = self._inputs(recordings)
        ids = self._best_paths(batch) if "input_values" in batch else self._generated(batch)
        # Repetitions within a word are of a path, and taken out already.
        decoded = (self.tokenizer.decode(row, skip_special_tokens=True, group_tokens=False) for row in ids)
        return [text.strip() for text in decoded]

    def _best_paths(self, batch):
        best = tf.argmax(models.call_padded(self.model, batch).logits, -1, tf.int32)
        frames = models.num_frames(self.model.config, tf.reduce_sum(batch["attention_mask"], -1))
        return tf.ragged.boolean_mask(best, models.spoken(best, frames, self.tokenizer.pad_token_id)).to_list()

    def _generated(self, batch):
        # Whisper's own `generate` would put another beginning before the transcript than in training.
        start = [self.model.config.decoder_start_token_id, *self._encoder.prefix]
        ids = TFGenerationMixin.generate(
            self.model,
            batch["input_features"],
            decoder_input_ids=tf.repeat([start], len(batch["input_features"]), 0),
            max_new_tokens=self.options.max_new_tokens or self.spec.max_target_length,
            num_beams=self.options.num_beams,
            eos_token_id=self._encoder.end,
        )
        return ids.numpy()[:, len(start) :].tolist()

    def score(self, records):
        """Errors of words and of characters, insertions, deletions and substitutions, and how many there are."""
        import jiwer

        rows = []
        for start in range(0, len(records), self.options.batch_size):
            some = records.iloc[start : start + self.options.batch_size]
            for said, true in zip(self._said(some["audio"].tolist()), map(self._as_written, some["target"])):
                counts = []
                for process, units in ((jiwer.process_words, said.split()), (jiwer.process_characters, said)):
                    found = process(true, said) if true.strip() else None
                    errors = found.insertions + found.deletions + found.substitutions if found else len(units)
                    counts += [errors, found.hits + found.deletions + found.substitutions if found else 0]
                rows.append(counts)
        return pd.DataFrame(rows, records.index, ["word_errors", "words", "character_errors", "characters"])

    def pooled(self, means):
        """Word and character error rate: all errors over all words and characters."""
        rates = {"wer": means["word_errors"] / means["words"], "cer": means["character_errors"] / means["characters"]}
        return pd.DataFrame(rates) if isinstance(means, pd.DataFrame) else pd.Series(rates)

    def _as_written(self, transcript: str) -> str:
        """A transcript in the letters that a model by CTC has."""
        if not hasattr(self._encoder, "transcript"):
            return transcript
        ids = self._encoder.transcript(transcript)
        return self.tokenizer.decode(ids, skip_special_tokens=True, group_tokens=False).strip()
