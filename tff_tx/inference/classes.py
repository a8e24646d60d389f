"""Classes of texts and images, and the entities in texts."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import datasets, models, tasks
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers import tokens
from tff_tx.inference.media import MediaPredictor, file_name
from tff_tx.inference.predictor import Predictor, stacked


class TextClassifier(Predictor):
    """The most likely classes of texts."""

    @property
    def record_column(self):
        """One text, or several."""
        return self._encoder.columns[0]

    @functools.cached_property
    def _encoder(self):
        return self.definition.encoder(tasks.Facts(self.data, self.spec, self.tokenizer))

    def predict_batch(self, inputs):
        for text, row in zip(inputs, self._logits(inputs)):
            yield {"text": text, **most_likely(row, self.model.config, self.options.top_k)}

    def _logits(self, inputs):
        batch = padded(list(self._encoder.inputs(inputs)), self.tokenizer)
        if not models.has_segments(self.model.config):
            batch.pop("token_type_ids", None)
        return self.model(batch, training=False).logits


class TextRegressor(TextClassifier):
    """The numbers of texts."""

    def predict_batch(self, inputs):
        for text, (value,) in zip(inputs, self._logits(inputs).numpy().tolist()):
            yield {"text": text, "value": round(value, 6)}


class MultiLabelClassifier(TextClassifier):
    """The labels of texts whose probability reaches the threshold, which is the model's own or 0.5."""

    def predict_batch(self, inputs):
        config = self.model.config
        cuts = getattr(config, "thresholds", None) or [0.5] * config.num_labels
        for text, row in zip(inputs, tf.sigmoid(self._logits(inputs)).numpy()):
            applies = [config.id2label[int(i)] for i in np.flatnonzero(row >= np.asarray(cuts, row.dtype))]
            shown = {config.id2label[int(i)]: round(float(row[i]), 4) for i in np.argsort(-row)[: self.options.top_k]}
            yield {"text": text, "labels": applies, "probabilities": shown}


class ImageClassifier(MediaPredictor):
    """The most likely classes of images: files, or pixels of any size as integers 0..255 or floats 0..1."""

    record_column, media = "pixels", "images"

    def predict_batch(self, inputs):
        images = [read_image(image) if isinstance(image, str) else np.asarray(image) for image in inputs]
        pixels = np.stack([self._processor(datasets.channels_first(image)) for image in images])
        logits = self.model({"pixel_values": tf.constant(pixels)}, training=False).logits
        for image, row in zip(inputs, logits):
            yield {**file_name(image), **most_likely(row, self.model.config, self.options.top_k)}

    @functools.cached_property
    def _processor(self):
        found = None
        if isinstance(self._model, str):
            found = models.load_processor(self.definition.auto_class, self._model)
        return found or models.plain_processor(models.image_shape(self.model.config))


class EntityTagger(Predictor):
    """The tags of words, and the entities if they mark any.

    Tables have lists of words; texts are split into words as in usual data sets, with punctuation apart.
    """

    record_column = "tokens"

    def predict_batch(self, inputs):
        sentences = [tokens.words(text) if isinstance(text, str) else text for text in inputs]
        encoded = datasets.word_pieces(self.tokenizer, sentences)
        # As in training: a sentence that is too long is cut, and a word's tag is that of its first token.
        pieces = [
            (number, piece)
            for number, (words, (ids, owners)) in enumerate(zip(sentences, encoded))
            for piece in self._encoder.pieces(words, range(len(words)), ids, owners)
        ]
        found = [[("O", 0.0)] * len(words) for words in sentences]
        for start in range(0, len(pieces), self.options.batch_size):
            for number, place, tag in self._tags(pieces[start : start + self.options.batch_size]):
                found[number][place] = tag
        for text, words, tags in zip(inputs, sentences, found):
            read = {"text": text, "words": words} if isinstance(text, str) else {"text": " ".join(words)}
            names, scores = ([pair[i] for pair in tags] for i in (0, 1))
            entities = {"entities": _entities(read["text"], words, tags)} if self._marks_entities else {}
            yield {**read, **entities, "tags": names, "scores": scores}

    @functools.cached_property
    def _marks_entities(self):
        return models.entity_scheme(list(self.model.config.id2label.values())) is not None

    @functools.cached_property
    def _encoder(self):
        return datasets.TokenClassificationEncoder(self.tokenizer, (), self.spec.max_length)

    def _tags(self, pieces):
        """Yields (sentence, place of the word, (tag, its probability))."""
        batch = padded([{"input_ids": piece["input_ids"]} for _, piece in pieces], self.tokenizer)
        probabilities = tf.nn.softmax(self.model(batch, training=False).logits).numpy()
        names = self.model.config.id2label
        for (number, piece), row in zip(pieces, probabilities):
            for position in np.flatnonzero(piece["labels"] != models.IGNORED):
                best = int(row[position].argmax())
                yield number, piece["labels"][position], (names[best], round(float(row[position, best]), 4))


def padded(examples: Sequence[Mapping[str, np.ndarray]], tokenizer: Any) -> dict[str, tf.Tensor]:
    """A batch of examples with `input_ids`, padded at their ends as in training."""
    fills = {name: (tokenizer.pad_token_id or 0) if name == "input_ids" else 0 for name in examples[0]}
    found = {name: stacked([example[name] for example in examples], fill) for name, fill in fills.items()}
    found["attention_mask"] = stacked([np.ones_like(example["input_ids"]) for example in examples], 0)
    return {name: tf.constant(value) for name, value in found.items()}


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
    """Reads the pixels of a picture as training does.

    Raises:
      UserError: If the file is no picture.
    """
    try:
        with open(path, "rb") as file:
            return datasets.as_image(file.read())
    except Exception as error:  # Pillow has many
        raise UserError(
            f"{setting('predict.data')}={path} is not a picture that can be read ({error}): check it."
        ) from None


def _entities(text: str, words: Sequence[str], tags: Iterable[tuple[str, float]]) -> list[dict]:
    """Spans of tags: type, text, first character, character behind the last, and mean probability of the tags."""
    found: list[dict] = []
    type_before, end = None, 0
    for word, (tag, score) in zip(words, tags):
        start = text.index(word, end)
        end = start + len(word)
        prefix, _, entity_type = tag.partition("-")
        if prefix == "O":
            type_before = None
            continue
        if prefix in ("B", *models.SINGLES) or entity_type != type_before:
            found.append({"type": entity_type, "start": start, "scores": []})
        found[-1]["scores"].append(score)
        found[-1]["end"] = end
        type_before = None if prefix in models.ENDS else entity_type
    return [
        {"type": e["type"], "text": text[e["start"] : e["end"]], "start": e["start"], "end": e["end"]}
        | {"score": round(sum(e["scores"]) / len(e["scores"]), 4)}
        for e in found
    ]
