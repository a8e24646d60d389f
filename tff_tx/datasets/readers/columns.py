"""From a file's own columns to the columns of records, and what can be wrong with their values."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Callable

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import listed
from tff_tx.datasets.readers import units, values
from tff_tx.datasets.readers.messages import messages_of
from tff_tx.datasets.sources import Rows

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


def check(row: tuple, spec: DataSpec, wants: frozenset) -> None:
    """Rejects a (place, row) pair without a value for one of the wanted record columns, or a time to sort it by."""
    for column in wants:
        _READ[column]([row], spec)
    where, found = row
    if spec.sorted_by is not None:
        require_column(where, found, spec.sorted_by, "time_column")
        if values.is_missing_number(found[spec.sorted_by]):
            raise UserError(f"{where}: the column {spec.sorted_by!r} has no value; fill it in or remove the row.")


_NO_SCALARS = (list, dict, bytes, np.ndarray)
_NAMING = (
    *("text_column", "audio_column", "label_column", "target_column", "question_column", "context_column"),
    *("answer_column", "answer_start_column", "client_column", "numeric_columns", "categorical_columns"),
    *("label_columns", "sorted_by"),
)
"""What of a `DataSpec` names columns."""


def with_nested(rows: Rows, spec: DataSpec) -> Rows:
    """Gives rows the columns that a spec names by the path to them: `a.b` is b of what a holds, `a.0` its first."""
    named = [getattr(spec, field) or () for field in _NAMING] + [client_columns(spec.client_column, {})]
    paths = [name for names in named for name in ((names,) if isinstance(names, str) else names) if "." in name]
    for where, row in rows:
        if paths and isinstance(row, dict):
            found = {path: _at(row, path) for path in paths if path not in row}
            row = {**row, **{path: value for path, value in found.items() if value is not None}}
        yield where, row


_TIMES = ("t", "time", "timestamp", "datetime", "date", "step", "index", "epoch")
_FEWEST_TIMES, TIME_ROWS = 10, 100


def time_column(rows: Sequence[tuple], spec: DataSpec) -> str | None:
    """The column of a wide table that has times as numbers: of the first rows, each has a greater one than the last.

    It is the first column, or has a usual name; None if there is none, or settings name the series.
    """
    table = [row for _, row in rows if isinstance(row, dict)]
    numbers = [name for name, value in (table[0].items() if table else ()) if values.is_number(value)]
    for place, name in enumerate(table[0] if len(numbers) > 1 and not spec.numeric_columns else ()):
        # Of few rows any series may be increasing.
        is_likely = str(name).lower() in _TIMES or place == 0 and len(table) >= _FEWEST_TIMES
        found = [row.get(name) for row in table] if is_likely else [None]
        if all(map(values.is_number, found)) and np.all(np.diff(list(map(values.as_number, found))) > 0):
            return name
    return None


def one_client_a_column(rows: Rows, spec: DataSpec) -> Rows:
    """From each row of a wide table as many rows as it has series: the `value` of the `client`, a column."""
    names, rows = list(spec.numeric_columns), iter(rows)
    head = list(itertools.islice(rows, TIME_ROWS))
    rows, time = itertools.chain(head, rows), spec.sorted_by or time_column(head, spec)
    for where, row in rows:
        if not isinstance(row, dict):
            yield where, row
            continue
        names = names or [name for name, value in row.items() if units.is_quantity(value) and name != time]
        if missing := [name for name in names if name not in row]:
            require_column(where, row, missing[0], "numeric_columns")
        others = {name: value for name, value in row.items() if name not in names}
        for name in names:
            yield f"{where}, column {name!r}", {**others, "client": name, "value": row[name]}


def require_column(where: str, row: dict, name: str, field: str) -> None:
    """Rejects a row without a column that a field names."""
    if name not in row:
        raise UserError(
            f"{where}: there is no column {name!r} ({setting(f'data.{field}')}); the columns are "
            f"{listed(map(repr, row))}; name one of them, call it so in the file, or give "
            f"{setting('data.columns')} for a file without a header line."
        )


def words_of_name(name: str) -> list[str]:
    """The words of a column's name, such as user.id, userId and USER_ID, in small letters."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split()


def _at(value, path):
    for name in path.split("."):
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def available(row: dict, spec: DataSpec) -> frozenset:
    """The record columns that can be made of a row."""
    texts = ("target", "question", "context")
    found = {name for name in texts if values.is_scalar(row.get(getattr(spec, f"{name}_column")))}
    words = values.is_list(row.get(_listed("tokens", row, spec.text_column[0])))
    if words and values.is_list(row.get(_listed("tags", row, spec.label_column))):
        found.update(["tokens", "tags"])
    if all(values.is_scalar(row.get(name)) for name in spec.text_column):
        found.add("text")
    if _usual("answers", row, spec.answer_column) in row:
        found.add("answers")
    if isinstance(row.get(_pixels_name(row, spec)), _NO_SCALARS) and not words:
        found.add("pixels")
    for column, names in (("numbers", spec.number_names), ("categories", spec.categorical_columns)):
        if names and all(name in row for name in names):
            found.add(column)
    if isinstance(row.get(spec.audio_column), (str, bytes, dict)):
        found.add("audio")
    if spec.label_columns or spec.label_column in row and "tags" not in found:
        several = spec.label_columns or spec.label_separator or values.is_list(row[spec.label_column])
        found.add("labels" if several else "label")
    if any(name in row for name in client_columns(spec.client_column, row)):  # that others are not is said on reading
        found.add("client")
    with contextlib.suppress(TypeError):
        found.update(["messages"] if messages_of(row, spec.text_column, spec.target_column) else [])
    return frozenset(found)


def _texts(rows, spec) -> list:
    return list(map(list, zip(*(_column(rows, name, "text_column", values.as_text) for name in spec.text_column))))


def _named_by(field: str, convert: Callable, rows, spec) -> list:
    return _column(rows, getattr(spec, field), field, convert)


def _answers(rows, spec) -> list:
    name = _usual("answers", rows[0][1], spec.answer_column)
    if not isinstance(rows[0][1].get(name, ""), (str, type(None), float)) or _is_squad(rows[0][1].get(name)):
        return _column(rows, name, "answer_column", values.as_squad_answers)
    # Without an answer there is nothing that starts anywhere.
    answered = [pair for pair in rows if name not in pair[1] or not values.is_empty(pair[1][name])]
    texts = _column(answered, name, "answer_column", values.as_text)
    starts = _column(answered, spec.answer_start_column, "answer_start_column", values.as_place)
    pairs = iter(zip(texts, starts))
    return [[] if name in row and values.is_empty(row[name]) else [next(pairs)] for _, row in rows]


def _is_squad(value):
    return isinstance(value, str) and isinstance(values.parsed(value), dict)


def _tokens(rows, spec) -> list:
    return _column(rows, _listed("tokens", rows[0][1], spec.text_column[0]), "text_column", values.as_words)


def _tags(rows, spec) -> list:
    tags = _column(rows, _listed("tags", rows[0][1], spec.label_column), "label_column", values.as_words)
    for (where, row), sentence in zip(rows, tags):
        tokens = values.parsed(row.get(_listed("tokens", row, spec.text_column[0]), sentence))
        if len(tokens) != len(sentence):
            raise UserError(f"{where}: {len(tokens)} tokens and {len(sentence)} tags; give each token one tag.")
    return tags


def _labels(rows, spec) -> list:
    if spec.label_columns:
        columns = [_column(rows, name, "label_columns", values.as_flag) for name in spec.label_columns]
        return [[name for name, applies in zip(spec.label_columns, row) if applies] for row in zip(*columns)]
    if spec.label_separator is None:
        return _column(rows, spec.label_column, "label_column", values.as_labels)
    for where, row in rows:
        require_column(where, row, spec.label_column, "label_column")
    found = ["" if values.is_missing(row[spec.label_column]) else str(row[spec.label_column]) for _, row in rows]
    return [[name for part in text.split(spec.label_separator) if (name := part.strip())] for text in found]


def _messages(rows, spec) -> list:
    found = []
    for where, row in rows:
        with contextlib.suppress(TypeError):
            found.append(messages_of(row, spec.text_column, spec.target_column))
            if found[-1] is not None:
                continue
        raise UserError(
            f"{where}: the row is no conversation whose last message is an answer: give it `messages` with role and "
            "content, `instruction` and `output`, or name the prompt and the answer with "
            f"{setting('data.text_column')} and {setting('data.target_column')}."
        )
    return found


def _prompts(rows, spec) -> list:
    found = []
    for where, row in rows:
        with contextlib.suppress(TypeError):
            found.append(messages_of(row, spec.text_column, spec.target_column, answered=False))
            if found[-1] is not None:
                continue
        raise UserError(
            f"{where}: the row has no message: give it `messages` with role and content, `instruction`, or the column "
            f"of the prompt that the run was trained with ({setting('data.text_column')}={spec.text_column[0]})."
        )
    return found


def _usual(name: str, row: dict, chosen: str) -> str:
    """The usual name of a column if the row has it, else the chosen one."""
    return name if name in row else chosen


def _listed(name: str, row: dict, chosen: str) -> str:
    """The chosen name of a column if that has a list, else the usual name if the row has it."""
    return chosen if values.is_list(row.get(chosen)) else _usual(name, row, chosen)


def _pixels_name(row: dict, spec: DataSpec) -> str:
    names = [name for name in (*spec.text_column, "pixels", "image") if name in row]
    images = [name for name in names if isinstance(row[name], _NO_SCALARS)]
    return next(iter(images + names), "pixels")


def client_columns(client_column: str | None, row: Mapping) -> list[str]:
    """The columns that say together who a row's client is: one, or those with commas between, if none is called so."""
    name = client_column or "client"
    return [name] if name in row else [part.strip() for part in name.split(",")]


def client_key(client_column: str | None, row: Mapping) -> tuple:
    """The values of `client_columns` in a row."""
    return tuple(row.get(name) for name in client_columns(client_column, row))


def _clients(rows, spec) -> list:
    names = client_columns(spec.client_column, rows[0][1])
    *others, last = (_column(rows, name, "client_column", values.as_client) for name in names)
    # Other values give other ids: slashes of all but the last have a backslash before.
    others = [[value.replace("\\", r"\\").replace("/", r"\/") for value in column] for column in others]
    return list(map("/".join, zip(*others, last)))


def _pixels(rows, spec) -> list:
    return _column(rows, _pixels_name(rows[0][1], spec), "text_column", values.as_image)


def _numbers(rows, spec) -> list:
    convert = values.as_number if spec.missing_numbers == "refuse" else values.as_number_or_nan
    columns = np.array([_column(rows, name, "numeric_columns", convert) for name in spec.number_names], np.float64)
    if spec.missing_numbers == "mean":
        columns = np.concatenate([columns, np.isnan(columns)])
    return list(columns.T)


def _categories(rows, spec) -> list:
    columns = [_column(rows, name, "categorical_columns", values.as_category) for name in spec.categorical_columns]
    return [list(row) for row in zip(*columns)]


_NUMERIC = (values.as_number, values.as_number_or_nan)


def _column(rows: Sequence[tuple], name: str, field: str, convert: Callable) -> list:
    found = []
    for where, row in rows:
        require_column(where, row, name, field)
        value = row[name]
        is_missing = values.is_empty if convert is values.as_number else values.is_missing
        if is_missing(value) and convert not in (values.as_number_or_nan, values.as_category):
            raise UserError(f"{where}: the column {name!r} has no value; fill it in or remove the row.")
        try:
            found.append(convert(units.without_unit(value) if convert in _NUMERIC else value))
        except Exception as error:  # whatever Pillow, NumPy or Python raise: it is none
            shown = value[:60] if isinstance(value, str) else reprlib.repr(value)
            raise UserError(
                f"{where}: the column {name!r} has {shown!r}, which is no "
                f"{values.KIND[convert]}{_why(convert, value)}; correct it or choose another "
                f"{setting(f'data.{field}')}."
            ) from error
    if convert in _NUMERIC:
        require_one_writing([where for where, _ in rows], [row[name] for _, row in rows], name)
    return found


def _why(convert: Callable, value) -> str:
    """Why a value may be no number or image, if that can be told."""
    if convert in _NUMERIC and values.has_comma_of_either_kind(units.without_unit(value)):
        return " (its comma may group thousands or be a decimal one)"
    if convert is values.as_image and isinstance(value, str) and os.path.splitext(value)[1]:
        return " (there is no such file from the table's folder, or from a folder in it or beside it)"
    return ""


def require_one_writing(places: Sequence[str], column: Sequence, name: str) -> None:
    """Rejects a column of numbers in which a point may be a decimal one or group thousands, or of several units."""
    units.require_one(places, column, name)
    if (place := values.ambiguous(list(map(units.without_unit, column)))) is not None:
        raise UserError(
            f"{places[place]}: the column {name!r} has {column[place]!r}, whose point may group thousands, as commas "
            "or points of other rows say, or be a decimal one: write the numbers of a column alike."
        )


def telling(rows: Sequence[tuple], name: str) -> list[tuple]:
    """The first rows that tell a column's unit, and whether its points are decimal; those of a pass must agree."""
    require_one_writing([where for where, _ in rows], [row[name] for _, row in rows], name)
    points = (values.has_point_of_either_kind, values.has_grouping_points)
    kinds = [lambda value, of=of: of(units.without_unit(value)) for of in points]
    kinds += [units.unit, lambda value: isinstance(value, str) and values.is_number(value)]
    return [pair for kind in kinds for pair in [next((p for p in rows if kind(p[1][name])), None)] if pair is not None]


_READ = {
    "text": lambda rows, spec: [" ".join(texts) for texts in _texts(rows, spec)],
    "texts": _texts,
    **{
        name: functools.partial(_named_by, f"{name}_column", values.as_text)
        for name in ("target", "question", "context")
    },
    "answers": _answers,
    "tokens": _tokens,
    "tags": _tags,
    "labels": _labels,
    "messages": _messages,
    "prompt": _prompts,
    "label": functools.partial(_named_by, "label_column", values.as_label),
    "client": _clients,
    "audio": functools.partial(_named_by, "audio_column", values.as_file),
    "pixels": _pixels,
    "numbers": _numbers,
    "categories": _categories,
    "row": lambda rows, spec: [row for _, row in rows],
}
