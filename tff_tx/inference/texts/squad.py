"""Exact match and F1 of answers, as in the evaluation of SQuAD.

Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", https://arxiv.org/abs/1606.05250,
section 6.1, and Rajpurkar et al. 2018, https://arxiv.org/abs/1806.03822, for questions without an answer, whose answer
is the empty text.
"""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """In lower case, without punctuation, articles (a, an, the) and superfluous blanks, in that order."""
    bare = answer.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(answer: str, answers: Sequence[str]) -> float:
    """1 if the answer is one of people's, 0 otherwise, all normalized.

    Args:
      answer: The program's; empty: there is none.
      answers: People's; empty: there is none.
    """
    return float(normalized(answer) in map(normalized, _possible(answers)))


def word_f1(answer: str, answers: Sequence[str]) -> float:
    """The harmonic mean of precision and recall of the words, all normalized, with the best of people's answers.

    Where one of the two is no answer it is 1 if both are, and 0 otherwise.

    Args:
      answer: The program's; empty: there is none.
      answers: People's; empty: there is none.
    """
    return max(_f1(normalized(answer).split(), normalized(other).split()) for other in _possible(answers))


def _possible(answers: Sequence[str]) -> list[str]:
    return [answer for answer in answers if normalized(answer)] or [""]


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((collections.Counter(found) & collections.Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))
