"""Classes of texts and images, and the entities in texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError, setting
from tff_tx.inference.predictor import Predictor, require_inputs


class TextClassifier(Predictor):
    """The most likely classes of texts."""

    def predict_batch(self, inputs):
        encoded = encode(self.tokenizer, inputs, self.spec.max_length)
        logits = self.model(model_inputs(encoded), training=False).logits
        for text, row in zip(inputs, logits):
            yield {"text": text, **most_likely(row, self.model.config, self.options.top_k)}


class ImageClassifier(Predictor):
    """The most likely classes of images, float [channels, height, width] in [0, 1], which are made to fit the model."""

    def read(self, *, texts=(), question=None, files=()):
        """Images of files."""
        del question
        require_inputs(texts, files)
        if texts:
            raise UserError(
                f"the model takes images: set {setting('predict.input')} instead of {setting('predict.text')}."
            )
        return [read_image(path) for path in files]

    def predict_batch(self, inputs):
        wanted = models.image_shape(self.model.config)
        pixels = np.stack([_fit(image, wanted) for image in inputs])
        logits = self.model({"pixel_values": tf.constant(pixels)}, training=False).logits
        return [most_likely(row, self.model.config, self.options.top_k) for row in logits]


class EntityTagger(Predictor):
    """The entities in texts, whose words are between blanks."""

    def predict_batch(self, inputs):
        words = [text.split() for text in inputs]
        encoded = encode(self.tokenizer, words, self.spec.max_length, is_split_into_words=True)
        best = tf.argmax(self.model(model_inputs(encoded), training=False).logits, -1).numpy()
        names = self.model.config.id2label
        for row, sentence in enumerate(words):
            tags: list = [None] * len(sentence)
            for position, word in enumerate(encoded.word_ids(row)):
                if word is not None and tags[word] is None:  # a word's label is its first token's
                    tags[word] = names[int(best[row, position])]
            yield {"text": inputs[row], "entities": _entities(sentence, tags)}


def encode(tokenizer: Any, texts: Sequence, max_length: int, **settings: Any) -> Any:
    """Texts as a batch of TensorFlow tensors; those of more than `max_length` tokens are cut."""
    return tokenizer(list(texts), truncation=True, max_length=max_length, padding=True, return_tensors="tf", **settings)


def model_inputs(encoded: Any) -> dict[str, tf.Tensor]:
    """Of what a tokenizer gives, what models are trained on."""
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def most_likely(logits: Any, config: Any, top_k: int) -> dict:
    """The likeliest class, and the probabilities of the `top_k` likeliest, by name.

    Args:
      logits: Of one input, [classes].
      config: The model's, with the names.
      top_k: How many.
    """
    probabilities = tf.nn.softmax(logits).numpy()
    best = np.argsort(-probabilities)[:top_k]
    names = config.id2label
    return {
        "label": names[int(best[0])],
        "probabilities": {names[int(i)]: round(float(probabilities[i]), 4) for i in best},
    }


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
        raise UserError(
            f"{setting('predict.input')}={path} is not a picture that can be read ({error}): check it."
        ) from None
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


def _entities(words: Sequence[str], tags: Iterable) -> list[dict]:
    """Spans of IOB2 tags with their text."""
    found: list[dict] = []
    type_before = None
    for word, tag in zip(words, tags):
        prefix, _, entity_type = (tag or "O").partition("-")
        if prefix == "O":
            type_before = None
            continue
        if prefix == "B" or entity_type != type_before:
            found.append({"type": entity_type, "text": word})
        else:
            found[-1]["text"] += " " + word
        type_before = entity_type
    return found
