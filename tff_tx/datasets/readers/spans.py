"""Annotations of texts as doccano, Label Studio, Prodigy and brat have them: spans of characters are tags of words."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tff_tx.core.errors import setting
from tff_tx.datasets.readers import tokens, values
from tff_tx.datasets.readers.opening import TextLines
from tff_tx.datasets.sources import CHUNK_ROWS, BadRow, Rows

_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset")
_LABELS = ("label", "labels", "type", "entity", "entity_group", "tag")
# Columns of Prodigy's and of Label Studio's JSON-MIN, which leave out the column of spans where there are none.
_OF_TOOLS = {"_task_hash", "annotation_id", "annotator"}


class Span(NamedTuple):
    """Characters of a text, from `start` up to `end`, and what they are."""

    start: int
    end: int
    label: str


def with_annotations(rows: Rows, text_column: str, label_column: str) -> Rows:
    """Gives rows the choices that annotators made, and `tokens` and `tags` (IOB2) where they marked spans of a text.

    Spans are lists of [start, end, label] or of objects with these, in the label column or, unless that has labels, in
    any. Words are runs without blanks and punctuation, of which each character is one; they end where spans do.
    """
    rows = iter(rows)
    head = list(itertools.islice(rows, CHUNK_ROWS))
    tasks = [(where, _of_label_studio(where, row)) for where, row in head]
    is_export = any(task is not row for (_, task), (_, row) in zip(tasks, head))
    several, has_choices = _several(tasks)
    columns = (_column(row, text_column, label_column) for _, row in tasks if isinstance(row, dict))
    name = next(filter(None, columns), None)
    if not (is_export or has_choices or name):
        yield from itertools.chain(head, rows)
        return
    rest = ((where, _of_label_studio(where, row)) for where, row in rows)
    for where, row in itertools.chain(tasks, rest):
        if isinstance(row, dict):
            row = {column: _choices(value, column in several) for column, value in row.items()}
            without = [] if is_export or _OF_TOOLS & row.keys() else None
            row = row if name is None else _tagged(where, {name: without, **row}, text_column, name)
        yield where, row


def brat_file(path: str) -> str | None:
    """The file beside a text that has brat's annotations of it, if there is one."""
    beside = f"{os.path.splitext(path)[0]}.ann"
    return beside if path != beside and os.path.isfile(beside) else None


def with_brat(path: str, row: dict, encoding: str | None = None) -> dict | BadRow:
    """A text with `tokens` and `tags` of the entities of brat's file beside it, or as it is without such a file."""
    if (beside := brat_file(path)) is None:
        return row
    found = []
    with TextLines(beside, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.startswith("T"):
                continue  # relations, events, attributes, notes
            span = re.fullmatch(r"T\d+\t(\S+) (\d+) (\d+)(?:\t.*)?", line.rstrip("\r\n"))
            if span is None:
                wrong = f"{beside}, line {number}: {line.strip()[:60]!r}"
                return BadRow(
                    f"{wrong} is no entity in one part like 'T1\\tPER 0 4\\tAnna': "
                    f"correct the line, or leave such texts out with {setting('data.on_bad_rows')}=skip."
                )
            found.append([int(span[2]), int(span[3]), span[1]])
    return _tagged(beside, {**row, "spans": found}, "text", "spans")


def _of_label_studio(where: str, row: Any) -> Any:
    """A task of Label Studio's as a row: the columns of its `data`, and each result by the name of its control."""
    if not isinstance(row, dict) or not isinstance(row.get("data"), dict) or "annotations" not in row:
        return row
    made = [one for one in row["annotations"] or () if isinstance(one, dict) and not one.get("was_cancelled")]
    made = [one for one in made if one.get("ground_truth")] or made
    found = [_results(one.get("result") or ()) for one in made]
    if not found or any(one != found[0] for one in found):
        what = f"{len(found)} annotations that differ" if found else "no annotation"
        remedy = "mark one as ground truth" if found else "annotate it"
        return BadRow(
            f"{where}: the task {row.get('id', '')!r} has {what}: {remedy}, remove the task, or leave such tasks out "
            f"with {setting('data.on_bad_rows')}=skip."
        )
    return {**row["data"], **found[0]}


def _results(results: Sequence) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue  # relations have none
        name, kind = str(result.get("from_name", "label")), result.get("type")
        if kind == "choices" and "choices" in value:
            found[name] = {"choices": value["choices"]}
        elif "start" in value and "end" in value:
            found.setdefault(name, []).append({**value, "labels": value.get(kind, value.get("labels"))})
        else:
            found[name] = value.get(kind, value)
    return found


def _several(rows: Sequence[tuple]) -> tuple[set[str], bool]:
    """Columns of which a row has more or fewer than one choice, and whether there are choices at all."""
    columns = [pair for _, row in rows if isinstance(row, dict) for pair in row.items() if _has_choices(pair[1])]
    return {name for name, value in columns if len(value["choices"]) != 1}, bool(columns)


def _has_choices(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"choices"} and isinstance(value["choices"], list)


def _choices(value: Any, several: bool) -> Any:
    if not _has_choices(value):
        return [value] if several and isinstance(value, str) else value
    return value["choices"] if several or len(value["choices"]) != 1 else value["choices"][0]


def _column(row: Mapping, text_column: str, label_column: str) -> str | None:
    """The column of a row that has spans of its text."""
    if not isinstance(row.get(text_column), str):
        return None
    names = [label_column] if values.is_scalar(row.get(label_column)) else [n for n in row if n != text_column]
    return next((name for name in names if _spans(row.get(name))), None)


def _spans(value: Any) -> list[Span]:
    """The spans in a list of them; empty if the value is anything else."""
    value = values.parsed(value)
    found = [_span(one) for one in value] if isinstance(value, list) else []
    return [] if None in found else found


def _span(one: Any) -> Span | None:
    if isinstance(one, Mapping):
        one = [next((one[name] for name in names if name in one), None) for names in (_STARTS, _ENDS, _LABELS)]
    if not isinstance(one, (list, tuple)) or len(one) != 3:
        return None
    label = one[2][0] if isinstance(one[2], list) and len(one[2]) == 1 else one[2]
    places = all(isinstance(place, int) and not isinstance(place, bool) for place in one[:2])
    return Span(*one[:2], label) if places and isinstance(label, str) and label else None


def _tagged(where: str, row: dict, text_column: str, name: str) -> dict | BadRow:
    text, value = row.get(text_column), values.parsed(row[name])
    if not isinstance(text, str) or not isinstance(value, list):
        return BadRow(
            f"{where}: the columns {text_column!r} and {name!r} are no text and a list of its spans, as in other rows; "
            "correct the row or remove it."
        )
    spans = sorted(_spans(value))
    if len(spans) < len(value):
        return BadRow(f"{where}: the column {name!r} has something else than spans with start, end and one label.")
    for span, before in zip(spans, [None, *spans]):
        if not 0 <= span.start < span.end <= len(text):
            return _wrong(where, span, f"which is no part of the text, that has {len(text)} characters")
        if before and span.start < before.end:
            return _wrong(where, span, f"which overlaps {before.start} to {before.end}, {before.label!r}")
    words, tags = _words_and_tags(text, spans)
    if not words:
        return BadRow(f"{where}: the column {text_column!r} has no word; remove the row.")
    return {**{key: value for key, value in row.items() if key != name}, "tokens": words, "tags": tags}


def _wrong(where: str, span: Span, what: str) -> BadRow:
    return BadRow(
        f"{where}: the span from {span.start} to {span.end}, {span.label!r}, {what}: correct it, or leave such rows "
        f"out with {setting('data.on_bad_rows')}=skip."
    )


def _words_and_tags(text: str, spans: Sequence[Span]) -> tuple[list[str], list[str]]:
    ends = sorted({0, len(text), *(place for span in spans for place in span[:2])})
    words, tags = [], []
    labels = {span.start: span for span in spans}
    for start, end in itertools.pairwise(ends):
        span = labels.get(start)
        for number, word in enumerate(tokens.parts(text[start:end])):
            words.append(word)
            tags.append("O" if span is None else f"{'I' if number else 'B'}-{span.label}")
    return words, tags
