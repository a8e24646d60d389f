"""Questions: `python -m data.ncbi_disease.questions --input=train.tsv --output=questions.csv`.

Of each sentence that names one disease, once: which? With --unanswerable also of those that name none.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

from data import prepare
from tff_tx.core.errors import UserError
from tff_tx.datasets.readers.conll import read_conll

QUESTION = "Which disease is named?"


def convert(source: str, target: str, unanswerable: bool = False) -> None:
    """A token and a tag a line, a blank line after a sentence -> question, context, answer, answer_start."""
    if not os.path.isfile(source):
        raise UserError(f"--input: there is no file {source!r}; correct the path.")
    rows = []
    for _, sentence in read_conll(source, ()):
        context, mentions = " ".join(sentence["tokens"]), list(_mentions(sentence["tokens"], sentence["tags"]))
        if len(mentions) == 1:
            rows.append((QUESTION, context, *mentions[0]))
        elif not mentions and unanswerable:
            rows.append((QUESTION, context, "", ""))
    with open(target, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "context", "answer", "answer_start"), *rows])


def _mentions(tokens: Sequence[str], tags: Sequence[str]):
    """The text and the first character of each disease in the joined tokens."""
    starts = [number for number, tag in enumerate(tags) if tag.startswith("B-")]
    for start in starts:
        end = start + 1
        while end < len(tags) and tags[end].startswith("I-"):
            end += 1
        yield " ".join(tokens[start:end]), sum(len(token) + 1 for token in tokens[:start])


if __name__ == "__main__":
    prepare.run({}, convert, unanswerable="Adds the question of sentences without a disease, too.")
