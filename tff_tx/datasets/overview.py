"""What the columns of raw data look like, and which task they suggest; reads no more than their first records."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tff_tx.datasets.readers import values
from tff_tx.datasets.sources import Source, open_source
from tff_tx.datasets.spec import DataSpec

MOST_ROWS = 10_000
_WIDTH, _NUM_EXAMPLES = 32, 3
# A column with no more different values than these, and fewer than half of its rows, has categories.
_MOST_CLASSES = 100
_MANY_SERIES = 5
_TIME = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T]\d{1,2}:\d{2}(:\d\S*)?( ?[AP]M|Z| UTC)?)?$")
_CLIENT_NAMES = (
    *("client", "client_id", "user", "user_id", "patient", "patient_id", "speaker", "author", "hospital", "clinic"),
    *("site", "bank", "branch", "store", "device", "sensor", "source"),
)
_LABEL_NAMES = ("label", "class", "category", "target", "y", "sentiment", "score", "tag", "tags", "ner_tags", "answer")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a file.

    Attributes:
      name: Its name.
      kind: "text", "category", "number", "id", "time", "list", "image or recording" or "empty".
      missing: Rows without a value.
      distinct: Different values.
      examples: The first of these, cut.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    examples: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Overview:
    """The first records of the training data: their number, columns, and rows that repeat an earlier one."""

    num_rows: int
    columns: tuple[Column, ...]
    duplicates: int

    def of_kind(self, *kinds: str) -> list[str]:
        """The names of columns of some kinds."""
        return [column.name for column in self.columns if column.kind in kinds]


def overview(spec: DataSpec, source: Source | None = None) -> Overview | None:
    """Looks at the first `MOST_ROWS` training records as they stand in their files; None for data that are no files.

    Raises:
      UserError: If the data cannot be read.
    """
    if spec.dataset != "file":
        return None
    rows = list(itertools.islice(_rows(source or open_source(spec)), MOST_ROWS))
    names = dict.fromkeys(name for row in rows for name in row)
    prints = [hashlib.sha256(repr(sorted(row.items(), key=lambda pair: pair[0])).encode()).digest() for row in rows]
    columns = tuple(_column(name, [row.get(name) for row in rows]) for name in names)
    return Overview(len(rows), columns, len(rows) - len(set(prints)))


def _rows(source: Source) -> Iterator[Mapping[str, Any]]:
    return (_flat(row) for chunk in source.pools["train"].chunks() for _, row in chunk.rows)


def _flat(row: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A row with what its objects hold by their dotted names, but for pictures and recordings."""
    found = {}
    for name, value in row.items():
        is_nested = isinstance(value, Mapping) and not {"path", "bytes", "array"} & set(value)
        found |= _flat(value, f"{path}{name}.") if is_nested else {f"{path}{name}": value}
    return found


def _column(name: str, found: Sequence) -> Column:
    numbers = [value for value in found if not values.is_missing_number(value)]
    is_numeric = bool(numbers) and all(map(values.is_number, numbers))
    there = numbers if is_numeric else [value for value in found if not values.is_empty(value)]
    shown = list(dict.fromkeys(_shown(value) for value in there))
    kind = _kind(there, len(shown))
    examples = tuple(_cut(text, kind == "image or recording") for text in shown[:_NUM_EXAMPLES])
    return Column(name, kind, len(found) - len(there), len(shown), examples)


def _cut(text: str, is_path: bool) -> str:
    """What fits of an example; of a path its end, which says what it is."""
    if len(text) <= _WIDTH:
        return text
    return f"...{text[3 - _WIDTH :]}" if is_path else f"{text[: _WIDTH - 3]}..."


def _shown(value) -> str:
    if isinstance(value, dict) and ("path" in value or "bytes" in value):
        return str(value.get("path") or f"{len(value['bytes'])} bytes")
    return " ".join(str(value).split()) if not isinstance(value, bytes) else f"{len(value)} bytes"


def _kind(there: Sequence, distinct: int) -> str:
    if not there:
        return "empty"
    if all(map(values.is_list, there)):
        return "list"
    if not all(map(values.is_scalar, there)):
        return "image or recording"
    few = distinct <= min(_MOST_CLASSES, max(2, len(there) // 2))
    if all(map(values.is_number, there)):
        whole = all(values.as_number(value).is_integer() for value in there)
        return "category" if few and whole and distinct <= 20 else "number"
    if all(_TIME.match(str(value)) for value in there):
        return "time"
    words = sum(len(str(value).split()) for value in there) / len(there)
    return "category" if few and words < 4 else "text" if words >= 2 else "id"


def likely_task(spec: DataSpec, found: Overview, record_columns: frozenset) -> dict[str, Any]:
    """Settings of the task that data suggest, by path; empty if they suggest none.

    Args:
      spec: The data, whose columns may be named.
      found: Their first records.
      record_columns: What can be read of a record already, see `tff_tx.datasets.sources`.
    """
    if spec.client_per_column:
        return {"task.kind": "forecasting"}
    clients = [] if spec.client_column else _named(found.of_kind("category", "id", "number"), _CLIENT_NAMES)
    named = {"data.client_column": clients[0]} if clients else {}
    if {"question", "context", "answers"} <= record_columns:
        return {"task.kind": "question_answering", **named}
    if {"tokens", "tags"} <= record_columns:
        return {"task.kind": "token_classification", **named}
    texts = found.of_kind("text")
    if {"text", "target"} <= record_columns and spec.target_column in texts:
        return {"task.kind": "sequence_to_sequence", **named}
    if "messages" in record_columns and "target" not in record_columns:
        return {"task.kind": "instruction_tuning", **named}
    rest = [c for c in found.columns if c.name not in clients]
    labels = _labels(spec, rest)
    label = {} if not labels or labels[0] == spec.label_column else {"data.label_column": labels[0]}
    media = [c for c in found.columns if c.kind == "image or recording"]
    if media and labels:
        heard = any(name.endswith((".wav", ".flac", ".ogg", ".mp3")) for name in media[0].examples)
        return {"task.kind": "audio_classification" if heard else "image_classification", **label, **named}
    text = {} if list(spec.text_column) == texts else {"data.text_column": tuple(texts)}
    if texts and "labels" in record_columns:
        return {"task.kind": "multi_label_classification", **text, **named}
    if texts and not labels and (lists := _lists_of_labels(found)):
        return {"task.kind": "multi_label_classification", **text, "data.label_column": lists[0], **named}
    if texts and labels:
        regression = labels[0] in found.of_kind("number")
        kind = "sequence_regression" if regression else "sequence_classification"
        return {"task.kind": kind, **text, **label, **named}
    if texts:
        return {"task.kind": "masked_lm", "data.text_column": tuple(texts[:1]), **named}
    inputs = [c for c in rest if c.name not in labels[:1]]
    numbers, categories = ([c.name for c in inputs if c.kind == kind] for kind in ("number", "category"))
    if labels and (numbers or categories):
        table = {"data.numeric_columns": tuple(numbers), "data.categorical_columns": tuple(categories)}
        if any(c.missing for c in inputs if c.kind == "number"):
            table["data.missing_numbers"] = "mean"
        return {"task.kind": "tabular_classification", **label, **{k: v for k, v in table.items() if v}, **named}
    gaps = {"data.missing_numbers": "last"} if any(c.missing for c in inputs if c.kind == "number") else {}
    if len(numbers) > _MANY_SERIES and not named:
        return {"task.kind": "forecasting", "data.client_per_column": True, **gaps}
    return {"task.kind": "forecasting", "data.numeric_columns": tuple(numbers), **gaps, **named} if numbers else {}


def _lists_of_labels(found: Overview) -> list[str]:
    """Columns of lists which are often the same."""
    most = min(_MOST_CLASSES, found.num_rows // 2)
    return [c.name for c in found.columns if c.kind == "list" and c.distinct <= most]


def _named(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    return sorted((n for n in names if n.lower() in usual), key=lambda n: usual.index(n.lower()))


def _labels(spec: DataSpec, columns: Sequence[Column]) -> list[str]:
    """Columns that may be the label, the likeliest first: the named one, one with a usual name, one with categories."""
    scalars = [c.name for c in columns if c.kind in ("category", "number", "id")]
    if spec.label_column in scalars:
        return [spec.label_column]
    return [*_named(scalars, _LABEL_NAMES), *(c.name for c in columns[::-1] if c.kind == "category")]
