"""Scores of generated texts and of answers, a row per record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from tff_tx.inference.texts.rouge import rouge
from tff_tx.inference.texts.squad import exact_match, word_f1


def score_texts(write: Callable, records: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """What `score_targets` gives, and `answer_exact_match`: of texts without regard to blanks at their ends."""
    written: list[str] = []

    def remembered(texts):
        written.extend(found := write(texts))
        return found

    scores = score_targets(remembered, records, batch_size)
    matches = [float(text.strip() == target.strip()) for text, target in zip(written, records["target"])]
    return scores.assign(answer_exact_match=matches)


def score_targets(write: Callable[[Sequence[str]], list[str]], records: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L.

    Args:
      write: From texts to generated texts, such as a `Generator`.
      records: With columns `text` and `target`.
      batch_size: Texts a batch.

    Returns:
      A row a record, in their order, with the columns `rouge_1`, `rouge_2` and `rouge_l`.
    """
    scores = []
    for start in range(0, len(records), batch_size):
        some = records.iloc[start : start + batch_size]
        for text, target in zip(write(some["text"].tolist()), some["target"]):
            scores.append({name: score.fmeasure for name, score in rouge(text, target).items()})
    return pd.DataFrame(scores, records.index, ["rouge_1", "rouge_2", "rouge_l"])


def score_answers(answer: Callable, records: pd.DataFrame) -> pd.DataFrame:
    """Exact match and F1 of words, see `squad`.

    Args:
      answer: From questions and contexts to what has a `text`, such as an `Answerer`.
      records: With columns `question`, `context` and `answers`, pairs of a text and its place.

    Returns:
      A row a record, in their order, with the columns `text_exact_match` and `text_f1`.
    """
    found = answer(records["question"].tolist(), records["context"].tolist())
    scores = []
    for given, answers in zip(found, records["answers"]):
        texts = [text for text, _ in answers]
        scores.append((exact_match(given.text, texts), word_f1(given.text, texts)))
    return pd.DataFrame(scores, records.index, ["text_exact_match", "text_f1"])
