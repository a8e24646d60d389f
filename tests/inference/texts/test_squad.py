"""Exact match and F1 by hand."""

import pytest

from tff_tx.inference import texts


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The  Cat!", "cat"),
        ("an apple, a day", "apple day"),
        ("Denver-Broncos", "denverbroncos"),  # punctuation goes, and no blank takes its place
        ("a.", ""),  # first the point, then the article
        ("Theatre and another", "theatre and another"),
        ("$4.50 (U.S.)", "450 us"),
    ],
)
def test_normalized(answer, normal):
    assert texts.normalized(answer) == normal


def test_exact_match_is_with_any_of_the_answers():
    assert texts.exact_match("the Denver Broncos", ["Broncos", "Denver Broncos"]) == 1.0
    assert texts.exact_match("Denver", ["Broncos", "Denver Broncos"]) == 0.0


def test_f1_is_with_the_best_of_the_answers():
    # 2 of 3 words found, of 4: precision 2/3, recall 1/2; the other answer shares nothing.
    found = texts.word_f1("new york state", ["york city in new", "Albany"])
    assert found == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


def test_a_word_counts_as_often_as_both_have_it():
    assert texts.word_f1("to be to be", ["to be"]) == pytest.approx(2 * 0.5 * 1 / 1.5)


@pytest.mark.parametrize(
    ("answer", "answers", "score"),
    [("", [], 1.0), ("", ["Paris"], 0.0), ("Paris", [], 0.0), ("Paris", ["", "Paris"], 1.0), ("the", [], 1.0)],
)
def test_questions_without_an_answer(answer, answers, score):
    assert texts.exact_match(answer, answers) == score
    assert texts.word_f1(answer, answers) == score
