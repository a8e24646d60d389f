"""JSON files: lines, arrays, and the objects of SQuAD and LEAF."""

from __future__ import annotations

import collections
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import listed
from tff_tx.datasets.readers.opening import TextLines
from tff_tx.datasets.sources import BadRow, ClientWithoutExample, Format, Rows

_HEAD_CHARACTERS = 2**16
_LEAF = re.compile(r'\s*\{\s*"(users|num_samples|user_data|hierarchies)"\s*:\s*[\[{]')
_SQUAD = re.compile(r'(?s)\s*\{.*"paragraphs"\s*:\s*\[')
# What an object calls its array of records.
_RECORDS = ("data", "records", "rows", "examples", "results", "items", "entries", "hits", "documents")
# What a page of an API says beside its records, in words that its keys have; a record has something of its own.
_OF_PAGES = re.compile("page|next|prev|count|total|offset|limit|cursor|more|meta|link|status|took|^of$|^(ok|success)$")
_OPENING = re.compile(rf'\s*(\[|\{{\s*$|\{{\s*"({"|".join(_RECORDS)})"\s*:\s*\[)')


def json_format(path: str, encoding: str | None = None) -> str | None:
    """The name of the format of a file with JSON in it, by its beginning; None for other files."""
    head = ""
    try:
        with TextLines(path, encoding) as lines:
            while len(head) < _HEAD_CHARACTERS and (line := next(lines, "")):
                head += line
    except UserError:
        return None
    if not re.match(r"\s*[\[{]", head):
        return None
    if _LEAF.match(head):
        return "leaf"
    return "squad" if _SQUAD.match(head) else "jsonl"


def read_jsonl(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """JSON Lines, one object a line; or an array of objects, an object that has such an array, or pages of these."""
    with TextLines(path, encoding) as file:
        lines = ((n, line) for n, line in file.numbered() if isinstance(line, BadRow) or line.strip())
        first = list(itertools.islice(lines, 2))
        whole = first and isinstance(first[0][1], str) and _opens_array(first[0][1], len(first) == 1)
        for number, line in () if whole else itertools.chain(first, lines):
            where = f"{path}, line {number}"
            yield where, line if isinstance(line, BadRow) else _accepted(where, _object(where, line))
    if whole:
        for number, value in enumerate(_records(_json(path, _text(path, encoding))), start=1):
            where = f"{path}, record {number}"
            yield where, _accepted(where, value if isinstance(value, dict) else _no_object(where, value))


def _opens_array(line: str, alone: bool) -> bool:
    """Whether a first line begins a value that goes on, or is `alone` with records in it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _OPENING.match(line) is not None
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return alone and isinstance(value, dict) and _records(value) != [value]


def _records(content: Any) -> list:
    """The records of a file: an array, that of an object, or those of an array of objects, as pages of an API are."""
    if isinstance(content, dict):
        of_pandas = _of_pandas(content)
        return of_pandas or _page(content) or next(filter(None, map(_page, content.values())), [content])
    pages = [_page(page) if _says_no_more(page) else None for page in content]
    return [row for page in pages for row in page] if pages and all(pages) else content


def _of_pandas(content: dict) -> list | None:
    """The rows of a table as pandas writes it: {column: {number: value}}, {number: row}, or columns and data.

    Where columns are called by numbers, too, it is the first of these, which is pandas' default.
    """
    names, rows = content.get("columns"), content.get("data")
    if _has_only(names, (str, int)) and _has_only(rows, list) and len({*map(str, names)}) == len(names):
        return [dict(zip(map(str, names), row)) if len(row) == len(names) else row for row in rows]
    parts = list(content.values())
    if not parts or not all(isinstance(part, dict) for part in parts):
        return None
    numbers = parts[0].keys()
    if all(map(str.isdecimal, numbers)) and all(part.keys() == numbers for part in parts):
        return [{name: part[number] for name, part in content.items()} for number in numbers]
    return parts if all(map(str.isdecimal, content)) else None


def _has_only(values: Any, kinds: Any) -> bool:
    """Whether it is a list of values of these kinds."""
    return isinstance(values, list) and all(isinstance(value, kinds) for value in values)


def _page(value: Any) -> list | None:
    """The records of an object that holds them by a usual name."""
    found = [value.get(name) for name in _RECORDS] if isinstance(value, dict) else []
    return next((rows for rows in found if isinstance(rows, list) and rows and isinstance(rows[0], dict)), None)


def _says_no_more(page: Any) -> bool:
    """Whether an object beside its records has what pages have alone."""
    others = page.keys() - set(_RECORDS) if isinstance(page, dict) else ()
    return all(_OF_PAGES.search(name.lower()) for name in others)


def _object(where: str, line: str) -> dict | BadRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(f"{where}: no valid JSON ({_mistake(error)}); correct the line.")
    return row if isinstance(row, dict) else _no_object(where, row)


def _accepted(where: str, row: dict | BadRow) -> dict | BadRow:
    """A row of Prodigy's, unless its annotator rejected or ignored what it says."""
    if isinstance(row, BadRow) or "_task_hash" not in row or row.get("answer") not in ("reject", "ignore"):
        return row
    return BadRow(
        f"{where}: its annotator's `answer` is {row['answer']!r}, so that its labels do not hold: remove the row, or "
        f"leave such rows out with {setting('data.on_bad_rows')}=skip."
    )


def _no_object(where: str, value: Any) -> BadRow:
    return BadRow(
        f"{where}: a {type(value).__name__} where an object like "
        '{"text": ..., "label": ...} is expected; correct the line.'
    )


def _text(path: str, encoding: str | None) -> str:
    with TextLines(path, encoding) as lines:
        return "".join(lines)


def _json(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UserError(f"{path}, line {line}: no valid JSON ({_mistake(error)}); correct the file.") from error


def _mistake(error: ValueError | RecursionError) -> str:
    """What is wrong and where; of the two usual mistakes more than that something else was expected."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    before, here = error.doc[: error.pos].rstrip(), error.doc[error.pos : error.pos + 1]
    what = error.msg
    if before.endswith(",") and here in ("]", "}"):
        what = f"a comma before {here}"
    elif here == "'":
        what = "single quotes, where JSON has double ones,"
    return f"{what} at column {error.colno}"


def read_squad(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """SQuAD's JSON, of version 1.1 or 2.0 (Rajpurkar et al. 2016, 2018).

    {data: [{title, paragraphs: [{context, qas: [{id, question, answers: [{text, answer_start}]}]}]}]}. A row a
    question: title, id, context, question and answers, which are empty where `is_impossible` and may be absent.
    """
    content = _json(path, _text(path, encoding))
    place = "data"
    try:
        for article in content["data"]:
            title = listed([str(article.get("title", ""))])
            for number, paragraph in enumerate(article["paragraphs"], start=1):
                place = f"{title!r}, paragraph {number}"
                context = paragraph["context"]
                for question in paragraph["qas"]:
                    name = listed([str(question.get("id", question["question"]))])
                    place = f"{title!r}, question {name!r}"
                    row = {"title": article.get("title", ""), "id": question.get("id"), "context": context}
                    row["question"] = question["question"]
                    if question.get("is_impossible") or "answers" in question:
                        row["answers"] = [] if question.get("is_impossible") else question["answers"]
                    yield f"{path}, {place}", row
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: no SQuAD file at {place} ({type(error).__name__} {error}), which has articles in `data` with "
            f"`paragraphs` of a `context` and `qas`; correct it, or name its {setting('data.format')}."
        ) from error


def read_leaf(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """LEAF's JSON (Caldas et al. 2018): {users, user_data: {user: {x: [...], y: [...]}}}.

    One file is read at a time and as a whole, which is how LEAF cuts its files.
    """
    content = _json(path, _text(path, encoding))
    try:
        users, data = content["users"], content["user_data"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no LEAF file, which is an object with `users` and `user_data`; convert it, "
            f"or name its {setting('data.format')}."
        ) from error
    if twice := [user for user, times in collections.Counter(users).items() if times > 1]:
        raise UserError(f"{path}: the user {twice[0]!r} is listed twice; give each user one entry.")
    for user in users:
        yield from _leaf_user(path, user, data.get(user))


def _leaf_user(path: str, user: str, content) -> Rows:
    inputs = content.get("x", []) if isinstance(content, dict) else []
    if not inputs:
        yield path, ClientWithoutExample(f"{path}: the user {user!r} has no example.")
        return
    labels = content.get("y")
    if isinstance(labels, list) and len(labels) != len(inputs):
        raise UserError(
            f"{path}: the user {user!r} has {len(inputs)} inputs `x` and {len(labels)} labels "
            "`y`; make them equally many."
        )
    for number, value in enumerate(inputs):
        row = {"client": user, **_leaf_input(value)}
        if isinstance(labels, list):
            row["label"] = _leaf_label(labels[number])
        yield f"{path}, user {user!r}, example {number + 1}", row


def _leaf_label(value):
    """A label; the next character of a text, as Shakespeare has it, may be a blank, which is called `' '`."""
    return repr(value) if isinstance(value, str) and len(value) == 1 and value.isspace() else value


def _leaf_input(value) -> dict:
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return {"pixels": np.asarray(value)}
    if isinstance(value, list):
        # Fields of a record, as in LEAF's sent140; --text_column=4 takes the fifth.
        return {str(number): field for number, field in enumerate(value)}
    return {"text": value}


JSONL = Format(read_jsonl, (".jsonl", ".ndjson"), settings=("encoding",))
SQUAD = Format(read_squad, settings=("encoding",))
LEAF = Format(read_leaf, has_clients=True, one_file_a_client=True, settings=("encoding",))
