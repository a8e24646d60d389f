"""The texts that a sequence-to-sequence model makes of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Generator:
    """Writes with a Hugging Face model, by its own `generate`.

    Args:
      model: A TF model with an encoder and a decoder.
      tokenizer: Its tokenizer.
      max_length: Tokens of a text at most; longer ones are cut.
      max_new_tokens: Tokens of what is written, at most.
      num_beams: Beams of the search; 1 takes the likeliest token each time.
      temperature: Of sampling; 0: nothing is sampled.
      seed: Of sampling.
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
        """What is made of each text, as one batch."""
        encoded = self._tokenizer(
            list(texts), truncation=True, max_length=self._max_length, padding=True, return_tensors="tf"
        )
        ids = self._model.generate(encoded["input_ids"], attention_mask=encoded["attention_mask"], **self._settings)
        return [text.strip() for text in self._tokenizer.batch_decode(ids.numpy(), skip_special_tokens=True)]
