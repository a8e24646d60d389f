"""ROUGE against the numbers of the paper and by hand."""

import pytest

from tff_tx.inference import texts

S1 = "police killed the gunman"


@pytest.mark.parametrize(
    ("candidate", "rouge_2", "rouge_l"),
    [("police kill the gunman", 1 / 3, 3 / 4), ("the gunman kill police", 1 / 3, 2 / 4)],
)
def test_the_papers_example(candidate, rouge_2, rouge_l):
    """Lin 2004, section 3.1: both have one bigram of S1, and only ROUGE-L tells them apart."""
    assert texts.rouge_n(candidate, S1, 2).recall == pytest.approx(rouge_2)
    found = texts.rouge_l(candidate, S1)
    assert found == pytest.approx((rouge_l,) * 3)


def test_the_longest_of_several_common_subsequences_counts_alone():
    """Section 3.1: "the gunman police killed" has "the gunman" or "police killed", not both."""
    assert texts.rouge_l("the gunman police killed", S1).f1 == pytest.approx(0.5)
    assert texts.rouge_n("the gunman police killed", S1, 2).recall == pytest.approx(2 / 3)


def test_precision_recall_and_f1_of_texts_of_different_lengths():
    # Of the 5 words of the text "the" counts as often as the reference has it, twice, and "cat": 3 of 5, 3 of 6.
    found = texts.rouge_n("The the THE cat ran", "the cat sat on the mat", 1)
    assert found == pytest.approx((3 / 5, 3 / 6, 2 * 0.6 * 0.5 / 1.1))
    # "the cat" is the longest in that order.
    assert texts.rouge_l("The the THE cat ran", "the cat sat on the mat") == pytest.approx((2 / 5, 2 / 6, 4 / 11))


def test_a_longer_sequence_with_gaps():
    # a c d f of "a b c d f e" and "a c x d e f": 4 of 6 each.
    assert texts.rouge_l("a b c d f e", "a c x d e f").recall == pytest.approx(4 / 6)


def test_words_are_letters_and_digits_in_lower_case():
    assert texts.rouge_n("U.S. wins 4-1!", "u s WINS, 4 1", 1).f1 == 1.0
    assert texts.rouge_n("naïve Ärzte", "naïve ärzte", 2).f1 == 1.0


@pytest.mark.parametrize(("text", "reference"), [("", "a b"), ("a b", ""), ("", ""), ("c", "a b")])
def test_nothing_in_common_is_zero(text, reference):
    for found in (texts.rouge_n(text, reference, 1), texts.rouge_n(text, reference, 2), texts.rouge_l(text, reference)):
        assert found == (0.0, 0.0, 0.0)
