"""Extractive question answering."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.inference.predictor import Predictor, stacked
from tff_tx.inference.texts.scoring import score_answers


class Answer(NamedTuple):
    """An answer.

    Attributes:
      text: As it stands in the context; empty if there is none.
      start: Its first character there, from 0; -1 if there is none.
      score: By how much its logits exceed those of no answer, nats; negative if there is none.
    """

    text: str
    start: int
    score: float


class Answerer:
    """Answers questions with spans of their contexts.

    Of all windows of a context the span with the largest sum of logits counts, and there is no answer where in all
    windows that of [CLS] is larger still (Devlin et al. 2019, section 4.3, with threshold 0).

    Args:
      model: A TF model with logits of starts and ends.
      tokenizer: Its tokenizer.
      max_length: See `datasets.ContextWindows`.
      overlap: Likewise.
      max_answer_length: Tokens of an answer at most.
      batch_size: Windows a batch.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        overlap: int,
        max_answer_length: int,
        batch_size: int = 32,
    ):
        self._model, self._pad_id = model, tokenizer.pad_token_id or 0
        self._windows = datasets.ContextWindows(tokenizer, max_length, overlap)
        self._max_answer_length, self._batch_size = max_answer_length, batch_size

    def __call__(self, questions: Sequence[str], contexts: Sequence[str]) -> list[Answer]:
        """The answer to each question in its context."""
        best: dict[int, tuple] = {}
        null: dict[int, float] = collections.defaultdict(lambda: np.inf)
        windows = list(self._windows(questions, contexts))
        for start in range(0, len(windows), self._batch_size):
            some = windows[start : start + self._batch_size]
            for window, (first, last, score, nothing) in zip(some, self._spans(some)):
                null[window.pair] = min(null[window.pair], nothing)
                if window.pair not in best or score > best[window.pair][0]:
                    characters = int(window.offsets[first, 0]), int(window.offsets[last, 1])
                    best[window.pair] = score, *characters
        answers = []
        for pair, context in enumerate(contexts):
            score, first, behind = best[pair]
            margin = float(score - null[pair])
            answers.append(Answer(context[first:behind], first, margin) if margin > 0 else Answer("", -1, margin))
        return answers

    def _spans(self, windows):
        """(first token, last token, sum of their logits, sum of those of no answer) of each window."""
        inputs = {
            "input_ids": stacked([w.input_ids for w in windows], self._pad_id),
            "attention_mask": stacked([np.ones_like(w.input_ids) for w in windows], 0),
        }
        if models.has_segments(self._model.config):
            inputs["token_type_ids"] = stacked([w.token_type_ids for w in windows], 0)
        outputs = self._model({name: tf.constant(value) for name, value in inputs.items()}, training=False)
        logits = tf.stack([outputs.start_logits, outputs.end_logits], axis=-1)
        in_context = stacked([w.offsets[:, 0] >= 0 for w in windows], False)
        allowed = tf.constant(np.stack([in_context] * 2, axis=-1))
        found = (part.numpy() for part in models.best_spans(logits, allowed, self._max_answer_length))
        nulls = logits.numpy().sum(-1)[np.arange(len(windows)), [w.null for w in windows]]
        return zip(*found, nulls)


class QuestionAnswerer(Predictor):
    """Answers to questions, given with their contexts as pairs of texts."""

    def read(self, *, texts=(), question=None, files=()):
        """One question about each text, or files with both."""
        if (question is not None, bool(texts), bool(files)) not in ((True, True, False), (False, False, True)):
            raise UserError(
                f"the model answers questions: set {setting('predict.question')} and {setting('predict.text')}, or "
                f"{setting('predict.data')} to files with both."
            )
        if not files:
            return [(question, text) for text in texts]
        chunks = self.records(self.files_spec(files), "question", "context", "row")
        return (row for chunk in chunks for row in self.table_rows(zip(chunk["question"], chunk["context"]), chunk))

    @functools.cached_property
    def _answer(self):
        return Answerer(
            self.model,
            self.tokenizer,
            max_length=self.spec.max_length,
            overlap=self.spec.context_overlap,
            max_answer_length=self.spec.max_answer_length,
            batch_size=self.options.batch_size,
        )

    def predict_batch(self, inputs):
        questions, contexts = zip(*inputs)
        for question, found in zip(questions, self._answer(questions, contexts)):
            yield {"question": question, "answer": found.text, "start": found.start, "score": round(found.score, 4)}

    def score(self, records):
        return score_answers(self._answer, records)
