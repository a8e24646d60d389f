"""ROUGE: overlap of a generated text with a reference, as the package rouge-score computes it.

C.-Y. Lin 2004, "ROUGE: A package for automatic evaluation of summaries", https://aclanthology.org/W04-1013. Words are
runs of letters and digits of any script in lower case (the package itself leaves out all letters but a to z), without
stemming; there is one reference.
"""

from __future__ import annotations

import functools
import re
from typing import Any

_NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def rouge(text: str, reference: str) -> dict[str, Any]:
    """ROUGE-1 and ROUGE-2 (section 2) and ROUGE-L (section 3.1), each with `precision`, `recall` and `fmeasure`.

    Args:
      text: The program's.
      reference: What it should be.
    """
    found = _scorer().score(reference, text)
    return {ours: found[name] for ours, name in _NAMES.items()}


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@functools.cache
def _scorer():
    from rouge_score import rouge_scorer  # imports NLTK, which takes a second

    return rouge_scorer.RougeScorer(list(_NAMES.values()), tokenizer=_Words())
