"""What the columns of raw data look like, and which task they suggest; reads no more than their first records."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError
from tff_tx.core.text import listed
from tff_tx.datasets.readers import units, values
from tff_tx.datasets.sources import Source, open_source
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.surveys import one_spelling
from tff_tx.datasets.times import Order, by_time

MOST_ROWS = 10_000
_WIDTH, _NUM_EXAMPLES = 32, 3
# A column with no more different values than these, and fewer than half of its rows, has categories.
_MOST_CLASSES = 100
_MANY_SERIES = 5
_NINES = re.compile("-?9+")
_TIME = re.compile(
    r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T]\d{1,2}:\d{2}(:\d\S*)?( ?[AP]M|Z)?( (UTC|GMT)([+-]\d\S*)?)?)?$"
    r"|(19|20)\d\d-W[0-5]\d(-[1-7])?$|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
)
_CLIENT_NAMES = (
    *("client", "user", "customer", "patient", "speaker", "author", "annotator", "hospital", "clinic", "site", "bank"),
    *("branch", "store", "shop", "device", "sensor", "meter", "source"),
)
_LABEL_NAMES = ("label", "class", "category", "target", "y", "sentiment", "score", "tag", "tags", "ner_tags", "answer")
# What columns of a label are called with another word before, and of several labels.
_LABEL_ENDS = ("label", "class", "target")
_LISTS = ("labels", "topics", "tags", "categories", "classes", "genres", "emotions")
_ITEMS = ("item", "movie", "product", "song", "track", "book", "game", "video", "article", "asin", "sku")
_LONGER = ("article", "document", "text", "dialogue", "dialog", "report", "body", "story", "content", "findings")
_SHORTER = ("highlights", "summary", "abstract", "tldr", "impression", "translation")
_SAID = ("sentence", "transcript", "transcription", "text")
_SEPARATORS = ("|", ";", ",")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a file.

    Attributes:
      name: Its name.
      kind: "text", "category", "number", "id", "time", "list", "image or recording" or "empty".
      missing: Rows without a value.
      distinct: Different values.
      examples: The first of these, cut.
      labels: Different ones that the rows have in lists, or separated in a text; 0 for what are no sets of labels.
      separator: What stands between them in a text.
      code: A number such as -99 that several rows have and that lies apart from all others.
      unit: Of its numbers, which it stands beside.
      doubt: What is unclear of its numbers; "": nothing.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    examples: tuple[str, ...]
    labels: int = 0
    separator: str | None = None
    code: str | None = None
    unit: str = ""
    doubt: str = ""


@dataclasses.dataclass(frozen=True)
class Overview:
    """The first records of the training data: number, columns, how many repeat an earlier one, and themselves."""

    num_rows: int
    columns: tuple[Column, ...]
    duplicates: int
    rows: Sequence[Mapping[str, Any]] = dataclasses.field(default=(), repr=False)

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
    return Overview(len(rows), columns, len(rows) - len(set(prints)), rows)


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
    of = {units.unit(value) for value in numbers}
    has_unit = len(of) == 1 and of != {""}
    numbers = list(map(units.without_unit, numbers)) if has_unit else numbers
    commas = next((str(value) for value in numbers if values.has_comma_of_either_kind(value)), None)
    numbers = [v.replace(",", "") if values.has_comma_of_either_kind(v) else v for v in numbers] if commas else numbers
    is_numeric = bool(numbers) and all(map(values.is_number, numbers))
    there = numbers if is_numeric else [value for value in found if not values.is_empty(value)]
    shown = list(dict.fromkeys(_shown(value) for value in there))
    kind = _kind(there, len(shown))
    examples = tuple(_cut(text, kind == "image or recording") for text in shown[:_NUM_EXAMPLES])
    labels, separator = _separated(there, len(shown)) if kind in ("category", "text", "id") else (0, None)
    if kind == "list":
        labels = _num_labels([values.parsed(value) for value in there])
    kind = "category" if separator else kind
    code = _code(there) if kind == "number" else None
    unit = of.pop() if has_unit and kind == "number" else ""
    missing, doubt = len(found) - len(there), _doubt(there, kind, commas)
    return Column(name, kind, missing, len(shown), examples, labels, separator, code, unit, doubt)


def _doubt(there: Sequence, kind: str, commas: str | None) -> str:
    """Why a column may have numbers that are not read as such."""
    if kind == "number" and commas is not None:
        return f"has numbers such as {commas}, whose comma may group thousands or be a decimal one: write them without"
    others = {str(value) for value in there if not values.is_number(value)}
    numbers = {value for value in map(str, there) if value not in others}
    if kind not in ("category", "id", "text") or not 0 < len(others) <= 3 or len(numbers) < 10:
        return ""
    return f"has numbers but for {listed(sorted(map(repr, others)))}: leave these empty if they say that there is none"


def _code(numbers: Sequence) -> str | None:
    """A number of nines by which statistics programs say that there is none."""
    counts = collections.Counter(values.as_number(value) for value in numbers)
    for code in (number for number, times in counts.items() if times > 1 and _NINES.fullmatch(f"{number:g}")):
        others = [number for number in counts if number != code]
        low, high = min(others, default=0), max(others, default=0)
        if len(others) > 2 and (code < min(0, low) if code < 0 else code > high + (high - low)) and low >= 0:
            return f"{code:g}"
    return None


def _num_labels(rows: Sequence[Sequence]) -> int:
    """The number of different labels; 0 if rows are no sets of a few labels that many of them have."""
    if not all(isinstance(part, (str, int)) for row in rows for part in row) or any(
        len(set(row)) < len(row) for row in rows
    ):
        return 0
    labels = {part for row in rows for part in row}
    return len(labels) if 2 <= len(labels) <= min(_MOST_CLASSES, len(rows) // 2) else 0


def _separated(there: Sequence, distinct: int) -> tuple[int, str | None]:
    """The number of labels that texts consist of in several combinations, and what separates them."""
    for separator in _SEPARATORS:
        rows = [[part.strip() for part in str(value).split(separator)] for value in there]
        several = sum(len(row) > 1 for row in rows) * 10 >= len(rows)
        if several and all(map(all, rows)) and 0 < (labels := _num_labels(rows)) < distinct:
            return labels, separator
    return 0, None


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
        if distinct == len(there) > 2 and whole and _counts(there):
            return "id"
        return "category" if few and whole and distinct <= 20 else "number"
    if all(_TIME.match(str(value)) for value in there):
        return "time"
    words = sum(len(str(value).split()) for value in there) / len(there)
    return "category" if few and words < 4 else "text" if words >= 2 else "id"


def _counts(numbers: Sequence) -> bool:
    """Whether numbers are those of the rows, as an index that was written with a table."""
    first = values.as_number(numbers[0])
    return all(values.as_number(value) == first + n for n, value in enumerate(numbers))


def likely_task(spec: DataSpec, found: Overview, record_columns: frozenset) -> dict[str, Any]:
    """Settings of the task that data suggest, by path; empty if they suggest none.

    Args:
      spec: The data, whose columns may be named.
      found: Their first records.
      record_columns: What can be read of a record already, see `tff_tx.datasets.sources`.
    """
    likely = _likely_task(spec, found, record_columns)
    label = likely.get("data.label_column", spec.label_column)
    if likely.get("task.kind", "").endswith("_classification") and not spec.known_labels:
        labels = dict.fromkeys(str(row[label]).strip() for row in found.rows if not values.is_empty(row.get(label)))
        names = one_spelling(labels)
        if "data.label_separator" not in likely and len(names) < len(labels) and not any("," in n for n in names):
            likely["data.label_names"] = names
    if spec.time_column is None and likely and "in_time" in TASKS[likely["task.kind"]].capabilities:
        client = spec.client_column or likely.get("data.client_column", "client")
        of_each = (row.get(client) for row in found.rows)
        if fault := Order().find(of_each, (("", row) for row in found.rows)):
            likely["data.time_column"] = fault[1]
    return likely


def time_notes(spec: DataSpec, found: Overview, likely: Mapping[str, Any]) -> list[str]:
    """Notes on the steps of time of series, see `times.Order.notes`; `likely` is what `likely_task` gave.

    None where rows cannot be sorted: training says which.
    """
    rows, client = [("", row) for row in found.rows], spec.client_column or likely.get("data.client_column", "client")
    if name := likely.get("data.time_column", spec.sorted_by):
        try:
            rows = by_time(rows, name)
        except UserError:
            return []
    order = Order(spec.client_per_column)
    order.find((row.get(client) for _, row in rows), rows)
    return order.notes()


def _likely_task(spec: DataSpec, found: Overview, record_columns: frozenset) -> dict[str, Any]:
    if spec.client_per_column:
        return {"task.kind": "forecasting"}
    clients = [] if spec.client_column else _clients(found)
    named = {"data.client_column": clients[0]} if clients else {}
    if {"question", "context", "answers"} <= record_columns:
        return {"task.kind": "question_answering", **named}
    if {"tokens", "tags"} <= record_columns:
        return {"task.kind": "token_classification", **named}
    if words := _words_and_tags(found):
        return {"task.kind": "token_classification", **words, **named}
    texts = found.of_kind("text")
    if {"text", "target"} <= record_columns and spec.target_column in texts:
        return {"task.kind": "sequence_to_sequence", **named}
    if "messages" in record_columns and "target" not in record_columns:
        return {"task.kind": "instruction_tuning", **named}
    if pair := _from_and_to(texts):
        return {"task.kind": "sequence_to_sequence", **pair, **named}
    rest = [c for c in found.columns if c.name not in clients]
    labels = _labels(spec, [c for c in rest if not (texts and c.separator)])
    is_label = bool(labels) and _is_label(spec, labels[0])
    label = {} if not labels or labels[0] == spec.label_column else {"data.label_column": labels[0]}
    media = [c for c in found.columns if c.kind == "image or recording"]
    heard = any(name.endswith((".wav", ".flac", ".ogg", ".mp3")) for column in media for name in column.examples)
    if heard and (said := [name for name in texts if _last_word(name) in _SAID]):
        return {"task.kind": "speech_recognition", "data.target_column": said[0], **named}
    if media and labels:
        return {"task.kind": "audio_classification" if heard else "image_classification", **label, **named}
    text = {} if list(spec.text_column) == texts else {"data.text_column": tuple(texts)}
    if texts and "labels" in record_columns:
        return {"task.kind": "multi_label_classification", **text, **named}
    flags = [c.name for c in rest if c.distinct == 2 and {*c.examples} == {"0", "1"}]
    if texts and len(flags) > 1 and not is_label:
        return {"task.kind": "multi_label_classification", **text, "data.label_columns": tuple(flags), **named}
    lists = [] if not texts or is_label else _lists_of_labels(rest)
    if lists and (not labels or lists[0].name.lower() in _LISTS):
        how = {"data.label_separator": lists[0].separator} if lists[0].separator else {}
        return {"task.kind": "multi_label_classification", **text, "data.label_column": lists[0].name, **how, **named}
    if texts and labels:
        regression = labels[0] in found.of_kind("number")
        kind = "sequence_regression" if regression else "sequence_classification"
        if not named and "client" in record_columns and not spec.client_column:
            named = {"data.partition": "iid"}  # every text is a client of its own
        return {"task.kind": kind, **text, **label, **named}
    if texts:
        return {"task.kind": "masked_lm", "data.text_column": tuple(texts[:1]), **named}
    if not named and not is_label and (series := _names_of_series(found)):
        named, labels = {"data.client_column": series}, []
    items = [c.name for c in rest if c.kind in ("category", "id", "number") and _last_word(c.name) in _ITEMS]
    if items and named and not is_label:
        return {"task.kind": "next_item", "data.label_column": items[0], **named}
    return _of_a_table(rest, labels, label, named)


def _of_a_table(columns: Sequence[Column], labels: list[str], label: Mapping, named: Mapping) -> dict[str, Any]:
    """The task of columns of which none has texts: `label` and `named` are the settings of the label and the client."""
    inputs = [c for c in columns if c.name not in labels[:1]]
    numbers, categories = ([c.name for c in inputs if c.kind == kind] for kind in ("number", "category"))
    if labels and (numbers or categories):
        table = {"data.numeric_columns": tuple(numbers), "data.categorical_columns": tuple(categories)}
        if any(c.missing for c in inputs if c.kind == "number"):
            table["data.missing_numbers"] = "mean"
        return {"task.kind": "tabular_classification", **label, **{k: v for k, v in table.items() if v}, **named}
    gaps = {"data.missing_numbers": "last"} if any(c.missing for c in inputs if c.kind == "number") else {}
    if len(numbers) > _MANY_SERIES and not named:
        return {"task.kind": "forecasting", "data.client_per_column": True, **gaps}
    # Without a client each series is one, of which the end is held out.
    cohort = {"cohort.clients_per_round": len(numbers)} if len(numbers) < _MANY_SERIES else {}
    who = named or {"data.client_per_column": True, "data.split": "time", **cohort}
    return {"task.kind": "forecasting", "data.numeric_columns": tuple(numbers), **gaps, **who} if numbers else {}


def _lists_of_labels(columns: Sequence[Column]) -> list[Column]:
    """Columns of several labels, those with a usual name first."""
    return sorted((c for c in columns if c.labels), key=lambda c: c.name.lower() not in _LISTS)


def _from_and_to(texts: Sequence[str]) -> dict[str, Any]:
    """A text and what is to be made of it, a summary or a translation, by usual names; empty if there are none."""
    languages = [name for name in texts if re.fullmatch(r"[a-z]{2}(_[A-Z]{2})?", name.split(".")[-1])]
    source, target = languages if len(languages) == 2 else (None, None)
    for name in texts:
        others = [other for other in texts if other != name]
        if _last_word(name) in _SHORTER and others and target is None:
            longer = [other for other in others if _last_word(other) in _LONGER]
            source, target = (longer or others)[0], name
    return {} if target is None else {"data.text_column": (source,), "data.target_column": target}


def _words_and_tags(found: Overview) -> dict[str, Any]:
    """Lists of words and of their tags, by usual names."""
    lists = found.of_kind("list")
    words = [name for name in lists if name.lower() in ("tokens", "words")]
    tags = [name for name in lists if _last_word(name) in ("tags", "tag", "labels")]
    return {"data.text_column": tuple(words[:1]), "data.label_column": tags[0]} if words and tags else {}


def _names_of_series(found: Overview) -> str | None:
    """The column that says of which series a record is: every series has a record at about every time."""
    times = [c.distinct for c in found.columns if c.kind == "time"]
    return next(
        (
            c.name
            for c in found.columns
            if c.kind == "category" and c.distinct > 1
            if any(abs(c.distinct * number - found.num_rows) * 10 <= found.num_rows for number in times)
        ),
        None,
    )


def _words(name: str) -> list[str]:
    """The words of a column's name, such as user.id, userId and USER_ID, without that it is an identifier."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split()
    return words[:-1] if len(words) > 1 and words[-1] in ("id", "name", "code", "key", "no") else words


def _last_word(name: str) -> str:
    return (_words(name) or [""])[-1]


def _clients(found: Overview) -> list[str]:
    """Columns that may be the client, the likeliest first: by the last word of their names."""
    last = {name: _last_word(name) for name in found.of_kind("category", "id", "number")}
    several = {column.name for column in found.columns if column.distinct < found.num_rows}
    usual = [name for name in last if last[name] in _CLIENT_NAMES and name in several]
    return sorted(usual, key=lambda name: (_CLIENT_NAMES.index(last[name]), len(_words(name))))


def _is_label(spec: DataSpec, name: str) -> bool:
    return name == spec.label_column or name.lower() in _LABEL_NAMES or _last_word(name) in _LABEL_ENDS


def _labels(spec: DataSpec, columns: Sequence[Column]) -> list[str]:
    """Columns that may be the label, the likeliest first: the named one, one with a usual name, one with categories."""
    scalars = [c.name for c in columns if c.kind in ("category", "number", "id")]
    if spec.label_column in scalars:
        return [spec.label_column]
    usual = sorted((n for n in scalars if n.lower() in _LABEL_NAMES), key=lambda n: _LABEL_NAMES.index(n.lower()))
    others = [name for name in scalars if name not in usual and _is_label(spec, name)]
    return [*usual, *others, *(c.name for c in columns[::-1] if c.kind == "category" and c.distinct > 1)]
