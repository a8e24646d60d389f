"""Encoders of recordings: their classes, and what is said in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.encoders.encoder import NUMBER, NUMBERS, Encoder
from tff_tx.datasets.encoders.texts import TargetLabels
from tff_tx.datasets.encoders.tokenizing import Tokenize, tokenizer_fingerprint
from tff_tx.datasets.readers.audio import read_recording


class RecordingEncoder(Encoder):
    """What a feature extractor of transformers makes of recordings, at its own sampling rate.

    Examples: `input_values` float32 [None], samples (wav2vec2, HuBERT), or `input_features` float32 [mel bins, frames],
    of a fixed length (Whisper); and what a subclass adds.

    Args:
      extractor: The feature extractor, see `tff_tx.models.load_extractor`.
      max_seconds: The longest recording.
      least_samples: Of which the model makes something; shorter recordings are rejected.
      label_names: See `Encoder`.
      settings: Likewise.
      **features: Likewise.
    """

    def __init__(
        self,
        extractor: Any,
        max_seconds: float,
        least_samples: int = 1,
        label_names: Sequence[str] = (),
        settings: Sequence = (),
        **features: tf.TensorSpec,
    ):
        self._extractor, self._least = extractor, least_samples
        (self._name, *_), self._rate = extractor.model_input_names, extractor.sampling_rate
        self.max_seconds = max_seconds
        spec = tf.TensorSpec([None], tf.float32)
        if self._name == "input_features":
            self.max_seconds = min(max_seconds, extractor.chunk_length)
            spec = tf.TensorSpec([extractor.feature_size, extractor.nb_max_frames], tf.float32)
        settings = [extractor.to_json_string(), self.max_seconds, *settings]
        super().__init__(label_names, settings, **{self._name: spec}, **features)

    def input(self, recording: Any, where: str) -> dict[str, np.ndarray]:
        """The example of a recording, without labels.

        Args:
          recording: As `tff_tx.datasets.as_recording` takes it, of any rate.
          where: Its place, for messages.

        Raises:
          UserError: If it cannot be read, or is too short or too long.
        """
        samples = read_recording(recording, where).resampled(self._rate)
        if len(samples) < self._least:
            raise UserError(
                f"{where}: the recording has {len(samples)} samples at {self._rate} Hz, and the model takes "
                f"{self._least} or more; remove it."
            )
        found = self._extractor(self._cut(samples, where), sampling_rate=self._rate, return_tensors="np")
        return {self._name: found[self._name][0].astype(np.float32)}

    def _cut(self, samples: np.ndarray, where: str) -> np.ndarray:
        if len(samples) > self.max_seconds * self._rate:
            raise UserError(
                f"{where}: the recording is {len(samples) / self._rate:.1f} s long, and the longest may have "
                f"{self.max_seconds:g} s; cut it, or raise {setting('task.max_seconds')} where the model takes more."
            )
        return samples


class AudioClassificationEncoder(RecordingEncoder):
    """One recording, of which the beginning counts if it is too long, and one label a record: `label` int32 []."""

    kind = "audio_classification"
    columns = ("audio", "label")

    def __init__(self, extractor, label_names, max_seconds, least_samples=1):
        super().__init__(extractor, max_seconds, least_samples, label_names, label=NUMBER)

    def _cut(self, samples, where):
        return samples[: int(self.max_seconds * self._rate)]

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        for row in rows.itertuples():
            yield [{**self.input(row.audio, row.where), "label": np.int32(self.label_number(row.label, row))}]


class CTCEncoder(RecordingEncoder):
    """One recording and its transcript a record: `labels` int32 [None], the transcript's tokens, none of them special.

    Punctuation that the tokenizer has no token for is left out.

    Args:
      extractor: See `RecordingEncoder`, likewise `max_seconds` and `least_samples`.
      tokenizer: A Hugging Face tokenizer, such as one of characters.
      num_frames: From the samples of a recording to the frames that the model tells tokens from.
    """

    kind = "speech_recognition"
    columns = ("audio", "target")

    def __init__(self, extractor, tokenizer, max_seconds, least_samples, num_frames):
        settings = [tokenizer_fingerprint(tokenizer)]
        super().__init__(extractor, max_seconds, least_samples, (), settings, labels=NUMBERS)
        self._tokenizer, self._tokenize, self._num_frames = tokenizer, Tokenize(tokenizer), num_frames

    def transcript(self, text: str) -> np.ndarray:
        """The tokens of a transcript; unknown ones are the tokenizer's own for that."""
        (ids,) = self._tokenize.plain([text])
        unknown = self._tokenizer.unk_token_id
        if unknown in ids:
            dropped = {c for c in set(text) if unicodedata.category(c)[0] in "PS" and self._is_unknown(c)}
            text = " ".join("".join(c for c in text if c not in dropped).split())
            (ids,) = self._tokenize.plain([text])
        return ids

    def _is_unknown(self, character):
        return self._tokenizer.unk_token_id in next(self._tokenize.plain([character]))

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        for row in rows.itertuples():
            example, ids = self.input(row.audio, row.where), self.transcript(row.target)
            if not len(ids):
                raise UserError(f"{row.where}: the transcript {row.target!r} gives no token; remove the row.")
            if self._tokenizer.unk_token_id in ids:
                unknown = sorted({c for c in row.target if self._is_unknown(c)})
                raise UserError(
                    f"{row.where}: the tokenizer has no token for {', '.join(map(repr, unknown)) or 'a part'} of the "
                    f"transcript {row.target!r}; correct it, or choose another {setting('model.tokenizer')}."
                )
            frames = self._num_frames(example[self._name].shape[-1])
            # Between two equal tokens the model must have said that there is none.
            needed = len(ids) + int(np.sum(ids[1:] == ids[:-1]))
            if frames < needed:
                raise UserError(
                    f"{row.where}: the transcript {row.target[:60]!r} needs {needed} frames, and the model makes "
                    f"{frames} of the recording; remove the row, or lower conv_stride in {setting('model.config')}."
                )
            yield [{**example, "labels": ids}]


class TranscriptionEncoder(RecordingEncoder):
    """One recording and its transcript a record, as the target of a decoder: `labels` int32 [None], with an end.

    Args:
      extractor: See `RecordingEncoder`, likewise `max_seconds`.
      tokenizer: A Hugging Face tokenizer.
      start: The token that decoding starts with.
      max_target_length: The longest transcript, in tokens with its end; longer ones are cut.

    Attributes:
      prefix: The tokens that every transcript begins with, such as those for a language.
      end: The token that it ends with.
    """

    kind = "speech_recognition"
    columns = ("audio", "target")

    def __init__(self, extractor, tokenizer, max_seconds, start, max_target_length):
        settings = [tokenizer_fingerprint(tokenizer), start, max_target_length]
        super().__init__(extractor, max_seconds, 1, (), settings, labels=NUMBERS)
        self._labels = TargetLabels(tokenizer, max_target_length, start)
        (*self.prefix, self.end) = next(self._labels([""])).tolist()

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        for row, labels in zip(rows.itertuples(), self._labels(rows["target"].tolist())):
            yield [{**self.input(row.audio, row.where), "labels": labels}]
