"""Tables with a word a row and a column that says where sentences begin: their rows become sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tff_tx.core.errors import setting
from tff_tx.datasets.readers import values
from tff_tx.datasets.readers.columns import client_columns
from tff_tx.datasets.sources import CHUNK_ROWS, BadRow, Rows

_SENTENCE = re.compile(r"sent(ence)?[ _.-]*(#|id|no|nr|num|number|idx|index)", re.IGNORECASE)


def with_sentences(rows: Rows, text_column: str, label_column: str, client_column: str | None = None) -> Rows:
    """Gives tables with a word a row a row a sentence: `tokens`, `tags` of the label column, and the other columns.

    A sentence also ends where the client changes. Another column has the value of its first word, or a list where
    values differ. Tables without such a column of sentences are left as they are.
    """
    rows = iter(rows)
    head = list(itertools.islice(rows, CHUNK_ROWS))
    table = [row for _, row in head if isinstance(row, dict)]
    name = sentence_column(table, text_column)
    if name is None:
        yield from itertools.chain(head, rows)
        return
    names = [name, *(client_columns(client_column, table[0]) if client_column else [])]
    sentence, last = [], [None] * len(names)
    for where, row in itertools.chain(head, rows):
        found = [row.get(column) if isinstance(row, dict) else None for column in names]
        begins = [not values.is_empty(value) and value != before for value, before in zip(found, last)]
        if any(begins):
            if sentence:
                yield sentence[0][0], _joined(sentence, text_column, label_column)
            sentence = []
        last = [before if values.is_empty(value) else value for value, before in zip(found, last)]
        sentence.append((where, row))
    yield sentence[0][0], _joined(sentence, text_column, label_column)


def sentence_column(rows: Sequence[Mapping[str, Any]], text_column: str) -> str | None:
    """The column that says to which sentence a row's word belongs, or in its first row alone; None if there is none."""
    words = [row[text_column] for row in rows if not values.is_empty(row.get(text_column))]
    if not words or not all(values.is_scalar(word) and len(str(word).split()) == 1 for word in words):
        return None
    for name in (name for name in rows[0] if name != text_column and _SENTENCE.fullmatch(name.strip())):
        named = [row.get(name) for row in rows if not values.is_empty(row.get(name))]
        starts = sum(value != before for value, before in zip(named, [None, *named]))
        if 0 < 2 * starts <= len(rows):
            return name
    return None


def _joined(sentence: Sequence[tuple], text_column: str, label_column: str) -> dict | BadRow:
    for where, row in sentence:
        if isinstance(row, BadRow):
            return row
        empty = [c for c in (text_column, label_column) if c in row and values.is_empty(row[c])]
        if empty:
            return BadRow(
                f"{where}: the word has nothing in the column {empty[0]!r}: fill it, remove its sentence, or leave "
                f"such sentences out with {setting('data.on_bad_rows')}=skip."
            )
    columns = {name: [row.get(name) for _, row in sentence] for name in sentence[0][1]}
    found = {"tokens": list(map(str, columns.pop(text_column)))}
    found |= {"tags": columns.pop(label_column)} if label_column in columns else {}
    alike = lambda column: all(v == column[0] or values.is_empty(v) for v in column)  # noqa: E731
    return {**{name: column[0] if alike(column) else column for name, column in columns.items()}, **found}
