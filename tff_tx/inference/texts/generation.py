"""Text generation with sequence-to-sequence models."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tff_tx.inference.predictor import Predictor
from tff_tx.inference.texts.scoring import score_targets


class Generator:
    """Generates text with a Hugging Face model's own `generate`.

    Args:
      model: A TF model with an encoder and a decoder.
      tokenizer: Its tokenizer.
      max_length: Tokens of a text at most; longer ones are cut.
      max_new_tokens: Maximum number of generated tokens.
      num_beams: Beams of the search; 1 takes the likeliest token each time.
      temperature: Sampling temperature; 0: nothing is sampled.
      seed: Seed of sampling.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        max_new_tokens: int,
        num_beams: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ):
        self._model, self._tokenizer, self._max_length = model, tokenizer, max_length
        # A new model's configuration may force an end that another vocabulary has elsewhere.
        self._settings = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "forced_eos_token_id": None}
        if temperature:
            self._settings.update(do_sample=True, temperature=temperature, top_k=0, seed=(seed, 0))

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The text generated from each text, as one batch."""
        encoded = self._tokenizer(
            list(texts), truncation=True, max_length=self._max_length, padding=True, return_tensors="tf"
        )
        ids = self._model.generate(encoded["input_ids"], attention_mask=encoded["attention_mask"], **self._settings)
        return [text.strip() for text in self._tokenizer.batch_decode(ids.numpy(), skip_special_tokens=True)]


class Writer(Predictor):
    """Texts generated from texts."""

    @functools.cached_property
    def _write(self):
        return self._generator(self.tokenizer)

    def _generator(self, tokenizer):
        options = self.options
        return Generator(
            self.model,
            tokenizer,
            max_length=self.spec.max_length,
            max_new_tokens=options.max_new_tokens or self.spec.max_target_length,
            num_beams=options.num_beams,
            temperature=options.temperature,
            seed=options.seed,
        )

    def predict_batch(self, inputs):
        return [{"text": text, "written": written} for text, written in zip(inputs, self._write(inputs))]

    def score(self, records):
        return score_targets(self._write, records, self.options.batch_size)
