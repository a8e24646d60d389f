"""ROUGE: overlap of a generated text with a reference.

C.-Y. Lin 2004, "ROUGE: A package for automatic evaluation of summaries", https://aclanthology.org/W04-1013. Words are
runs of letters and digits in lower case, without stemming; there is one reference.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import NamedTuple


class Rouge(NamedTuple):
    """A score.

    Attributes:
      precision: What is in both, as a share of the program's text.
      recall: As a share of the reference, which is the paper's ROUGE-N (equation 1).
      f1: Their harmonic mean (equation 4 with beta 1).
    """

    precision: float
    recall: float
    f1: float


def rouge_n(text: str, reference: str, n: int) -> Rouge:
    """ROUGE-N (section 2): shared runs of n words, each counted as often as both have it.

    Args:
      text: The program's.
      reference: What it should be.
      n: Words a run.
    """
    found, wanted = (_runs(_words(t), n) for t in (text, reference))
    return _score(*(sum(runs.values()) for runs in (found & wanted, found, wanted)))


def rouge_l(text: str, reference: str) -> Rouge:
    """ROUGE-L (section 3.1): the longest sequence of words that both have in that order, not necessarily in a row.

    Args:
      text: The program's.
      reference: What it should be.
    """
    found, wanted = _words(text), _words(reference)
    return _score(_longest_common_subsequence(found, wanted), len(found), len(wanted))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _runs(words: Sequence[str], n: int) -> collections.Counter:
    return collections.Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    # lengths[j]: of the words of `first` so far and the first j of `second`.
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            before = lengths[j]
            lengths[j] = diagonal + 1 if word == other else max(before, lengths[j - 1])
            diagonal = before
    return lengths[-1]


def _score(shared: int, found: int, wanted: int) -> Rouge:
    """All 0 where a text has nothing to count."""
    precision, recall = shared / max(found, 1), shared / max(wanted, 1)
    return Rouge(precision, recall, 2 * shared / max(found + wanted, 1))
