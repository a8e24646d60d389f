"""ROUGE by rouge-score against the numbers of the paper, with words of any language."""

import pytest

from tff_tx.inference import texts

S1 = "police killed the gunman"


@pytest.mark.parametrize(
    ("candidate", "rouge_2", "rouge_l"),
    [
        ("police kill the gunman", 1 / 3, 3 / 4),
        ("the gunman kill police", 1 / 3, 2 / 4),
        ("the gunman police killed", 2 / 3, 2 / 4),
    ],
)
def test_the_papers_example(candidate, rouge_2, rouge_l):
    """Lin 2004, section 3.1: the first two have one bigram of S1, and only ROUGE-L tells them apart."""
    found = texts.rouge(candidate, S1)
    assert found["rouge_2"].recall == pytest.approx(rouge_2)
    assert found["rouge_l"] == pytest.approx((rouge_l,) * 3)


def test_precision_is_of_the_text_and_recall_of_the_reference():
    # Of the 5 words of the text "the" counts as often as the reference has it, twice, and "cat": 3 of 5, 3 of 6.
    found = texts.rouge("The the THE cat ran", "the cat sat on the mat")
    assert found["rouge_1"] == pytest.approx((3 / 5, 3 / 6, 2 * 0.6 * 0.5 / 1.1))
    assert found["rouge_l"] == pytest.approx((2 / 5, 2 / 6, 4 / 11))


def test_words_are_letters_and_digits_of_any_script_in_lower_case():
    assert texts.rouge("U.S. wins 4-1!", "u s WINS, 4 1")["rouge_1"].fmeasure == 1.0
    assert texts.rouge("naïve Ärzte_в Москве", "naïve ärzte в москве")["rouge_2"].fmeasure == 1.0
    assert texts.rouge("naïve", "na ve")["rouge_1"].fmeasure == 0.0


@pytest.mark.parametrize(("text", "reference"), [("", "a b"), ("a b", ""), ("", ""), ("c", "a b")])
def test_nothing_in_common_is_zero(text, reference):
    assert set(texts.rouge(text, reference).values()) == {(0.0, 0.0, 0.0)}
