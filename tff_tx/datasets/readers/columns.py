"""From a file's own columns to the columns of records, and what can be wrong with their values."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable

import numpy as np

from tff_tx.core.errors import UserError, setting

if TYPE_CHECKING:
    import pandas as pd

    from tff_tx.datasets.spec import DataSpec


def normalized(rows: Sequence[tuple], spec: DataSpec, wants: frozenset) -> pd.DataFrame:
    """The wanted record columns of (place, row) pairs; none of their values may be missing or of the wrong kind."""
    import pandas as pd

    # Object dtype throughout: pandas would turn the label 3 into 3.0 if another row had none.
    chunk = {"where": pd.Series([where for where, _ in rows], dtype=object)}
    for column in sorted(wants):
        chunk[column] = pd.Series(_READ[column](rows, spec), dtype=object)
    return pd.DataFrame(chunk)


def available(row: dict, spec: DataSpec) -> frozenset:
    """The record columns that can be made of a row."""
    texts = ("target", "question", "context")
    found = {name for name in texts if isinstance(row.get(getattr(spec, f"{name}_column")), str)}
    words = isinstance(row.get(_usual("tokens", row, spec.text_column[0])), list)
    if words and isinstance(row.get(_usual("tags", row, spec.label_column)), list):
        found.update(["tokens", "tags"])
    if all(isinstance(row.get(name), str) for name in spec.text_column):
        found.add("text")
    if _usual("answers", row, spec.answer_column) in row:
        found.add("answers")
    if isinstance(row.get(_pixels_name(row, spec)), (list, dict, bytes, np.ndarray)) and not words:
        found.add("pixels")
    for column, names in (("numbers", spec.numeric_columns), ("categories", spec.categorical_columns)):
        if names and all(name in row for name in names):
            found.add(column)
    if spec.label_column in row and "tags" not in found:
        found.add("label")
    if (spec.client_column or "client") in row:
        found.add("client")
    return frozenset(found)


def _texts(rows, spec) -> list:
    return list(map(list, zip(*(_column(rows, name, "text_column", _text) for name in spec.text_column))))


def _named_by(field: str, convert: Callable, rows, spec) -> list:
    return _column(rows, getattr(spec, field), field, convert)


def _answers(rows, spec) -> list:
    name = _usual("answers", rows[0][1], spec.answer_column)
    if not isinstance(rows[0][1].get(name, ""), (str, type(None), float)):
        return _column(rows, name, "answer_column", _squad_answers)
    # Without an answer there is nothing that starts anywhere.
    answered = [pair for pair in rows if name not in pair[1] or not _is_empty(pair[1][name])]
    texts = _column(answered, name, "answer_column", _text)
    starts = _column(answered, spec.answer_start_column, "answer_start_column", _place)
    pairs = iter(zip(texts, starts))
    return [[] if name in row and _is_empty(row[name]) else [next(pairs)] for _, row in rows]


def _tokens(rows, spec) -> list:
    return _column(rows, _usual("tokens", rows[0][1], spec.text_column[0]), "text_column", _words)


def _tags(rows, spec) -> list:
    tags = _column(rows, _usual("tags", rows[0][1], spec.label_column), "label_column", _words)
    for (where, row), sentence in zip(rows, tags):
        tokens = row.get(_usual("tokens", row, spec.text_column[0]), sentence)
        if len(tokens) != len(sentence):
            raise UserError(f"{where}: {len(tokens)} tokens and {len(sentence)} tags; give each token one tag.")
    return tags


def _usual(name: str, row: dict, chosen: str) -> str:
    """The usual name of a column if the row has it, else the chosen one."""
    return name if name in row else chosen


def _pixels_name(row: dict, spec: DataSpec) -> str:
    names = [name for name in (*spec.text_column, "pixels", "image") if name in row]
    images = [name for name in names if not isinstance(row[name], str)]
    return next(iter(images + names), "pixels")


def _clients(rows, spec) -> list:
    return _column(rows, spec.client_column or "client", "client_column", _label)


def _pixels(rows, spec) -> list:
    return _column(rows, _pixels_name(rows[0][1], spec), "text_column", _image)


def _numbers(rows, spec) -> list:
    columns = [_column(rows, name, "numeric_columns", _number) for name in spec.numeric_columns]
    return list(np.array(columns, np.float64).T)


def _categories(rows, spec) -> list:
    columns = [_column(rows, name, "categorical_columns", _label) for name in spec.categorical_columns]
    return [list(values) for values in zip(*columns)]


def _column(rows: Sequence[tuple], name: str, field: str, convert: Callable) -> list:
    values = []
    for where, row in rows:
        if name not in row:
            raise UserError(
                f"{where}: there is no column {name!r} ({setting(f'data.{field}')}); the columns are "
                f"{', '.join(map(repr, row))}; name one of them, or give {setting('data.columns')} for a file "
                "without a header line."
            )
        value = row[name]
        if _is_missing(value):
            raise UserError(f"{where}: the column {name!r} has no value; fill it in or remove the row.")
        try:
            values.append(convert(value))
        except (TypeError, ValueError, OSError) as error:
            raise UserError(
                f"{where}: the column {name!r} has {str(value)[:60]!r}, which is no "
                f"{_KIND[convert]}; correct it or choose another {setting(f'data.{field}')}."
            ) from error
    return values


def _is_missing(value) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _is_empty(value) -> bool:
    return _is_missing(value) or value == ""


def _text(value) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _words(value) -> list:
    if not isinstance(value, (list, np.ndarray)) or len(value) == 0:
        raise TypeError
    return [str(word) for word in value]


def _label(value) -> str:
    if isinstance(value, np.ndarray):
        # Scalars come out of some files as arrays of one element.
        value = value.item()
    if isinstance(value, (list, dict, bytes)) or value == "":
        raise TypeError
    return str(value)


def _number(value) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError
    return number


def _place(value) -> int:
    place = int(value)
    if place < 0 or place != float(value):
        raise ValueError
    return place


def _squad_answers(value) -> list:
    """Of {text: [...], answer_start: [...]}, as Hugging Face keeps SQuAD, or of SQuAD's [{text, answer_start}, ...]."""
    if isinstance(value, dict):
        if len(value.get("text", ())) != len(value.get("answer_start", (None,))):
            raise TypeError
        return [(_text(text), _place(start)) for text, start in zip(value["text"], value["answer_start"])]
    if not isinstance(value, (list, np.ndarray)) or not all(isinstance(answer, dict) for answer in value):
        raise TypeError
    return [(_text(answer.get("text")), _place(answer.get("answer_start"))) for answer in value]


def _image(value) -> np.ndarray:
    if isinstance(value, dict):
        # How Hugging Face's datasets keep images in Parquet.
        value = value.get("bytes")
    if isinstance(value, bytes):
        from PIL import Image

        value = np.asarray(Image.open(io.BytesIO(value)))
    pixels = np.asarray(value)
    if not np.issubdtype(pixels.dtype, np.number) or pixels.ndim < 1:
        raise TypeError
    return pixels


_READ = {
    "text": lambda rows, spec: [" ".join(texts) for texts in _texts(rows, spec)],
    "texts": _texts,
    **{name: functools.partial(_named_by, f"{name}_column", _text) for name in ("target", "question", "context")},
    "answers": _answers,
    "tokens": _tokens,
    "tags": _tags,
    "label": functools.partial(_named_by, "label_column", _label),
    "client": _clients,
    "pixels": _pixels,
    "numbers": _numbers,
    "categories": _categories,
    "row": lambda rows, spec: [row for _, row in rows],
}

_KIND = {
    _text: "text",
    _words: "list of words",
    _label: "single value",
    _image: "image",
    _number: "finite number",
    _place: "number of a character, from 0",
    _squad_answers: "list of answers with text and answer_start",
}
