"""Scores without a model, by hand."""

import pandas as pd
import pytest

from benchmarks import word_baselines
from tff_tx.inference import texts


def test_the_first_words_are_as_many_as_targets_have():
    write = word_baselines.first_words(["a b", "a b c d e"])  # 3.5 in the mean
    assert write(["Oil prices rise again today", "So"]) == ["Oil prices rise again", "So"]
    records = pd.DataFrame({"text": ["Oil prices rise again today"], "target": ["oil prices fall"]})
    scores = texts.score_targets(write, records, 1).iloc[0]
    assert scores.tolist() == pytest.approx([2 * 2 / 7, 2 * 1 / 5, 2 * 2 / 7])


def test_the_longest_known_answer_is_given():
    answer = word_baselines.known_answers([[("colon cancer", 3)], [("cancer", 0), ("a cancer", 0)], []])
    records = pd.DataFrame(
        {
            "question": ["which?"] * 3,
            "context": ["of colon cancer", "a cancer", "health"],
            "answers": [[("colon cancer", 3)], [("cancer", 2)], [("health", 0)]],
        }
    )
    assert [found.start for found in answer(["which?"] * 3, records["context"])] == [3, 0, -1]
    scores = texts.score_answers(answer, records)
    # The article does not count.
    assert scores["text_exact_match"].tolist() == [1.0, 1.0, 0.0]
    assert scores["text_f1"].tolist() == [1.0, 1.0, 0.0]
