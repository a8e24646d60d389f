"""Predictions of a saved model, for people: labels, entities, words, continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError


class Predictor:
    """Turns inputs into JSON-ready predictions.

    Args:
      kind: The task the model was trained for.
      directory: A model directory with its tokenizer.
      max_length: Tokens an input at most; longer ones are cut (a prompt keeps its end).
      top_k: Labels or words told of each input.
      max_new_tokens: Length of a continuation.
      temperature: Of sampling a continuation; 0 takes the likeliest token each time.
      seed: Of sampling.
    """

    def __init__(
        self,
        kind: str,
        directory: str,
        *,
        max_length: int,
        top_k: int = 3,
        max_new_tokens: int = 100,
        temperature: float = 0.0,
        seed: int = 0,
    ):
        self._model = models.from_pretrained(kind, directory)
        self._tokenizer = None
        if kind != "image_classification":
            self._tokenizer = models.load_tokenizer(directory)
        self._max_length, self._top_k = max_length, top_k
        self._max_new_tokens, self._temperature, self._seed = max_new_tokens, temperature, seed
        self._predict = getattr(self, f"_{kind}")

    def __call__(self, inputs: Sequence[Any]) -> list[dict]:
        """Predicts for a batch of texts, or of images [channels, height, width] in [0, 1]."""
        return self._predict(list(inputs))

    def _sequence_classification(self, texts):
        encoded = self._encode(texts)
        logits = self._model(encoded, training=False).logits
        return [{"text": t, **self._labels(row)} for t, row in zip(texts, logits.numpy())]

    def _image_classification(self, images):
        config = self._model.config
        size = config.image_size
        wanted = (config.num_channels, *(size if isinstance(size, (list, tuple)) else (size, size)))
        pixels = np.stack([_fit(image, wanted) for image in images])
        logits = self._model({"pixel_values": tf.constant(pixels)}, training=False).logits
        return [self._labels(row) for row in logits.numpy()]

    def _labels(self, logits):
        probabilities = tf.nn.softmax(logits).numpy()
        best = np.argsort(-probabilities)[: self._top_k]
        names = self._model.config.id2label
        return {
            "label": names[int(best[0])],
            "probabilities": {names[int(i)]: round(float(probabilities[i]), 4) for i in best},
        }

    def _token_classification(self, texts):
        words = [text.split() for text in texts]
        encoded = self._tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=self._max_length,
            padding=True,
            return_tensors="tf",
        )
        best = tf.argmax(self._model(self._inputs(encoded), training=False).logits, -1).numpy()
        names = self._model.config.id2label
        results = []
        for row, sentence in enumerate(words):
            tags: list = [None] * len(sentence)
            for position, word in enumerate(encoded.word_ids(row)):
                if word is not None and tags[word] is None:  # a word's label is its first token's
                    tags[word] = names[int(best[row, position])]
            results.append({"text": texts[row], "entities": _entities(sentence, tags)})
        return results

    def _masked_lm(self, texts):
        mask = self._tokenizer.mask_token
        for text in texts:
            if mask not in text:
                raise UserError(f"the text {text!r} has no {mask} to fill in: put one where a word is to be found.")
        encoded = self._encode(texts)
        logits = self._model(encoded, training=False).logits.numpy()
        results = []
        for text, ids, row in zip(texts, encoded["input_ids"].numpy(), logits):
            fillings = []
            for position in np.flatnonzero(ids == self._tokenizer.mask_token_id):
                probabilities = tf.nn.softmax(row[position]).numpy()
                best = np.argsort(-probabilities)[: self._top_k]
                fillings.append({self._tokenizer.decode([i]): round(float(probabilities[i]), 4) for i in best})
            results.append({"text": text, "fillings": fillings})
        return results

    def _causal_lm(self, texts):
        return [{"text": text, "continuation": self._continue(text)} for text in texts]

    def _continue(self, text):
        limit = models.max_positions(self._model.config) or self._max_length
        limit = min(limit, self._max_length)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UserError("an empty text has no continuation: give at least one character.")
        start, generator = len(ids), np.random.default_rng(self._seed)
        step = tf.function(
            lambda window, last: self._model(
                {"input_ids": window, "attention_mask": tf.ones_like(window)}, training=False
            ).logits[0, last]
        )
        while len(ids) < start + self._max_new_tokens:
            window = ids[-limit:]
            # One shape for the whole continuation: what is behind the last token cannot influence it.
            padded = window + [0] * (limit - len(window))
            logits = step(tf.constant([padded], tf.int32), tf.constant(len(window) - 1)).numpy()
            token = self._draw(logits, generator)
            if token == self._tokenizer.eos_token_id:
                break
            ids.append(token)
        return self._tokenizer.decode(ids[start:])

    def _draw(self, logits, generator):
        if self._temperature == 0:
            return int(np.argmax(logits))
        gumbel = generator.gumbel(size=logits.shape)
        return int(np.argmax(logits / self._temperature + gumbel))

    def _encode(self, texts):
        return self._inputs(
            self._tokenizer(texts, truncation=True, max_length=self._max_length, padding=True, return_tensors="tf")
        )

    @staticmethod
    def _inputs(encoded):
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def read_image(path: str) -> np.ndarray:
    """Reads a picture as float32 [channels, height, width] in [0, 1].

    Raises:
      UserError: If the file is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "I", "I;16") else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"--input={path} is not a picture that can be read ({error}): check it.") from None
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    return np.transpose(pixels, (2, 0, 1)).astype(np.float32) / 255.0


def _fit(image, wanted):
    """The image in the model's size and number of channels."""
    channels, height, width = wanted
    if image.shape[0] != channels:
        image = image.mean(0, keepdims=True) if channels == 1 else np.repeat(image[:1], channels, 0)
    if image.shape[1:] != (height, width):
        resized = tf.image.resize(np.transpose(image, (1, 2, 0)), (height, width), antialias=True)
        image = np.transpose(resized.numpy(), (2, 0, 1))
    return image


def _entities(words, tags):
    """Spans of IOB2 tags with their text."""
    found: list[dict] = []
    kind_before = None
    for word, tag in zip(words, tags):
        prefix, _, kind = (tag or "O").partition("-")
        if prefix == "O":
            kind_before = None
            continue
        if prefix == "B" or kind != kind_before:
            found.append({"type": kind, "text": word})
        else:
            found[-1]["text"] += " " + word
        kind_before = kind
    return found
