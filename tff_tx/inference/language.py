"""Predictions of language models: words behind mask tokens, and continuations."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx import datasets, models, tasks
from tff_tx.core.errors import UserError
from tff_tx.inference.classes import padded
from tff_tx.inference.predictor import Predictor
from tff_tx.inference.texts.generation import Writer
from tff_tx.inference.texts.scoring import score_texts

_CONTINUATION = 100
"""Tokens of a continuation where nothing is set."""


class MaskFiller(Predictor):
    """The most likely tokens behind each mask token of a text."""

    def predict_batch(self, inputs):
        mask = self.tokenizer.mask_token
        for text in inputs:
            if mask not in text:
                raise UserError(f"the text {text!r} has no {mask} to fill in: put one where a word is to be found.")
        parts = [text.split(mask) for text in inputs]
        encoded = list(datasets.Tokenize(self.tokenizer).joined(parts, mask, self.spec.max_length))
        for text, between, ids in zip(inputs, parts, encoded):
            if np.count_nonzero(ids == self.tokenizer.mask_token_id) < len(between) - 1:
                raise UserError(
                    f"the text {text!r} has a {mask} behind its first {self.spec.max_length} tokens, which are all "
                    "that the model sees: shorten what is before it."
                )
        batch = padded([{"input_ids": ids} for ids in encoded], self.tokenizer)
        logits = self.model(batch, training=False).logits.numpy()
        for text, ids, row in zip(inputs, batch["input_ids"].numpy(), logits):
            masks = np.flatnonzero(ids == self.tokenizer.mask_token_id)
            yield {"text": text, "fillings": [self._filling(row[position]) for position in masks]}

    def _filling(self, logits):
        probabilities = tf.nn.softmax(logits).numpy()
        best = np.argsort(-probabilities)[: self.options.top_k]
        return {self.tokenizer.decode([i]): round(float(probabilities[i]), 4) for i in best}


class Continuer(Predictor):
    """Continuations of texts, a token at a time; a prompt longer than the model's positions keeps its end."""

    def predict_batch(self, inputs):
        return [{"text": text, "continuation": self._continue(text)} for text in inputs]

    def _prompt(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _continue(self, text):
        ids = list(self._prompt(text))
        if not ids:
            raise UserError("an empty text has no continuation: give at least one character.")
        start, generator = len(ids), np.random.default_rng(self.options.seed)
        while len(ids) < start + (self.options.max_new_tokens or _CONTINUATION):
            window = ids[-self._limit :]
            # One shape for the whole continuation: what is behind the last token cannot influence it.
            padded = window + [0] * (self._limit - len(window))
            logits = self._step(tf.constant([padded], tf.int32), tf.constant(len(window) - 1)).numpy()
            token = self._draw(logits, generator)
            if token == self.tokenizer.eos_token_id:
                break
            ids.append(token)
        return self.tokenizer.decode(ids[start:])

    @functools.cached_property
    def _limit(self):
        longest = self.spec.max_length
        return min(models.max_positions(self.model.config) or longest, longest)

    @functools.cached_property
    def _step(self):
        return tf.function(
            lambda window, last: self.model(
                {"input_ids": window, "attention_mask": tf.ones_like(window)}, training=False
            ).logits[0, last]
        )

    def _draw(self, logits, generator):
        if self.options.temperature == 0:
            return int(np.argmax(logits))
        gumbel = generator.gumbel(size=logits.shape)
        return int(np.argmax(logits / self.options.temperature + gumbel))


class Responder(Continuer, Writer):
    """Answers to texts, or to conversations as lists of messages."""

    record_column = "prompt"

    def predict_batch(self, inputs):
        return [{"text": text, "answer": answer} for text, answer in zip(inputs, self._answers(inputs))]

    def _answers(self, inputs):
        if self.model.config.is_encoder_decoder:
            return self._write([self._prompt(text) for text in inputs])
        return [self._continue(text).strip() for text in inputs]

    def _prompt(self, text):
        if isinstance(text, str):
            return self._encoder.prompt([{"role": "user", "content": text}])
        # Of a record with an answer the model gives its own.
        return self._encoder.prompt(text[:-1] if text[-1]["role"] == "assistant" else text)

    @functools.cached_property
    def _encoder(self):
        facts = tasks.Facts(self.data, self.spec, self.tokenizer)
        return self.definition.encoder_of(self.model.config, facts)

    @functools.cached_property
    def _write(self):
        return self._generator(self._encoder.tokenizer)  # which cuts as in training

    def score(self, records):
        """Each conversation's last answer against the model's."""
        targets = [messages[-1]["content"] for messages in records["messages"]]
        pairs = pd.DataFrame({"text": records["messages"], "target": targets}, records.index)
        return score_texts(self._answers_if_asked, pairs, self.options.batch_size)

    def _answers_if_asked(self, conversations):
        """Answers, empty ones where nothing was said before: of a conversation that was cut, an answer may be all."""
        asked = [one for one in conversations if self._prompt(one)]
        found = iter(self._answers(asked) if asked else [])
        return [next(found) if self._prompt(one) else "" for one in conversations]
