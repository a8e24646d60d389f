"""Which task the first records of raw data suggest, by names and kinds of their columns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError
from tff_tx.datasets.likely_series import names_of_series, steps_in_columns
from tff_tx.datasets.overview import MOST_ROWS, Column, Overview
from tff_tx.datasets.readers import values
from tff_tx.datasets.readers.columns import client_key, words_of_name
from tff_tx.datasets.readers.words import sentence_column
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.surveys import absent_label_note, one_spelling
from tff_tx.datasets.times import Order, by_time

_MANY_SERIES = 5
_MOSTLY_MISSING = 0.9
_OF_NUMBERS = ("tabular_classification", "sequence_regression", "forecasting")
# Texts of fewer words, on average, beside as many columns of numbers and categories are names.
_WORDS_OF_A_NAME, _COLUMNS_OF_A_TABLE = 6, 4
_CLIENT_NAMES = (
    *("client", "user", "customer", "patient", "speaker", "author", "reviewer", "annotator", "hospital", "clinic"),
    *("site", "bank", "branch", "store", "shop", "device", "sensor", "meter", "source"),
)
_LABEL_NAMES = (
    *(
        "label",
        "class",
        "category",
        "target",
        "y",
        "sentiment",
        "score",
        "tag",
        "tags",
        "ner_tags",
        "answer",
        "outcome",
    ),
    *("survived", "diagnosis", "species", "churn", "exited", "fraud"),
)
_TAGS = ("tag", "ner", "entity", "label", "pos")
# What columns of a label are called with another word before, and of several labels.
_LABEL_ENDS = ("label", "class", "target")
# What is said of a text besides; of an item without a text they are no label.
_OPINIONS = ("sentiment", "rating", "stars", "overall", "polarity", "emotion", "stance", "intent")
_LISTS = ("labels", "topics", "tags", "categories", "classes", "genres", "emotions")
_ITEMS = ("item", "movie", "product", "song", "track", "book", "game", "video", "article", "asin", "sku")
_LONGER = ("article", "document", "text", "dialogue", "dialog", "report", "body", "story", "content", "findings")
_SHORTER = ("highlights", "summary", "abstract", "tldr", "impression", "translation")
# Pairs of texts by the names of their columns, or what comes before 1 and 2, or a and b.
_PAIRS = (("premise", "hypothesis"), ("query", "passage"), ("query", "document"), ("claim", "evidence"))
_OF_TWO = ("sentence", "sent", "s", "question", "q", "text", "title", "document", "passage", "query")
_SAID = ("sentence", "transcript", "transcription", "text")


def likely_task(spec: DataSpec, found: Overview, record_columns: frozenset) -> dict[str, Any]:
    """Settings of the task that data suggest, by path; empty if they suggest none.

    Args:
      spec: The data, whose columns may be named.
      found: Their first records.
      record_columns: What can be read of a record already, see `tff_tx.datasets.sources`.
    """
    likely = _likely_task(spec, _without_constants(spec, found), record_columns)
    if likely.get("task.kind") in _OF_NUMBERS and any(c.infinite for c in found.columns if c.kind == "number"):
        likely["data.on_bad_rows"] = "skip"
    label = likely.get("data.label_column", spec.label_column)
    is_label = _is_label(spec, label, False) and any(column.name == label for column in found.columns)
    if not spec.client_per_column and not is_label and steps_in_columns(found):
        return {}
    if likely.get("task.kind", "").endswith("_classification") and not spec.known_labels:
        labels = dict.fromkeys(str(row[label]).strip() for row in found.rows if not values.is_empty(row.get(label)))
        names = one_spelling(labels)
        if "data.label_separator" not in likely and len(names) < len(labels) and not any("," in n for n in names):
            likely["data.label_names"] = names
    if spec.time_column is None and likely and "in_time" in TASKS[likely["task.kind"]].capabilities:
        client = spec.client_column or likely.get("data.client_column")
        of_each = (client_key(client, row) for row in found.rows)
        if fault := Order().find(of_each, (("", row) for row in found.rows)):
            likely["data.time_column"] = fault[1]
    return likely


def label_note(spec: DataSpec, found: Overview, likely: Mapping[str, Any]) -> str:
    """See `surveys.absent_label_note`; `likely` is what `likely_task` gave."""
    if not likely["task.kind"].endswith("_classification") or spec.known_labels or "data.label_names" in likely:
        return ""
    label = likely.get("data.label_column", spec.label_column)
    there = (row.get(label) for row in found.rows)
    return absent_label_note(value for value in there if isinstance(value, str) and not values.is_empty(value))


def one_hot_note(found: Overview, likely: Mapping[str, Any]) -> str:
    """That the label is but one of several columns of 0 and 1 of which each row has one 1; empty if it is not."""
    flags = {c.name: [row.get(c.name) for row in found.rows] for c in found.columns if c.kind == "category"}
    flags = {name: there for name, there in flags.items() if {*map(str, there)} <= {"0", "1", "0.0", "1.0"}}
    label, names = likely.get("data.label_column"), [*flags]
    if label not in flags or len(flags) < 3 or any(sum(map(float, row)) != 1 for row in zip(*flags.values())):
        return ""
    return (
        f"Each row has a 1 in one of {names[0]} to {names[-1]}, which say its class: {label} alone tells one class "
        "from all others; write a column with the name of the class to tell all."
    )


def time_notes(spec: DataSpec, found: Overview, likely: Mapping[str, Any]) -> list[str]:
    """Notes on the steps of time of series, see `times.Order.notes`; `likely` is what `likely_task` gave.

    None where rows cannot be sorted: training says which.
    """
    rows, client = [("", row) for row in found.rows], spec.client_column or likely.get("data.client_column")
    if name := likely.get("data.time_column", spec.sorted_by):
        try:
            rows = by_time(rows, name)
        except UserError:
            return []
    order = Order(spec.client_per_column)
    order.find((client_key(client, row) for _, row in rows), rows)
    return order.notes()


def _without_constants(spec: DataSpec, found: Overview) -> Overview:
    """Without columns that all rows have the same value in, if these are all rows, but those that settings name."""
    if not 1 < found.num_rows < MOST_ROWS:
        return found
    named = {spec.label_column, *spec.text_column}
    columns = tuple(c for c in found.columns if c.distinct > 1 or c.missing or c.kind == "list" or c.name in named)
    return dataclasses.replace(found, columns=columns)


def _likely_task(spec: DataSpec, found: Overview, record_columns: frozenset) -> dict[str, Any]:
    if spec.client_per_column:
        return {"task.kind": "forecasting"}
    clients = [] if spec.client_column else _clients(found)
    named = {"data.client_column": clients[0]} if clients else {}
    if {"question", "context", "answers"} <= record_columns:
        return {"task.kind": "question_answering", **named}
    if {"tokens", "tags"} <= record_columns:
        return {"task.kind": "token_classification", **named}
    if words := _words_and_tags(found) or _word_a_row(found):
        return {"task.kind": "token_classification", **words, **named}
    missing = {column.name: column.missing for column in found.columns}
    texts = found.of_kind("text")
    texts = [name for name in texts if missing[name] < _MOSTLY_MISSING * found.num_rows] or texts
    texts = [] if not {*spec.text_column} & {*texts} and _are_names(found) else texts
    if {"text", "target"} <= record_columns and spec.target_column in texts:
        return {"task.kind": "sequence_to_sequence", **named}
    if "messages" in record_columns and "target" not in record_columns:
        return {"task.kind": "instruction_tuning", **named}
    if pair := _from_and_to(texts):
        return {"task.kind": "sequence_to_sequence", **pair, **named}
    texts = _pair(texts) or texts
    files = {"client"} if "client" in record_columns and not spec.client_column else set()  # a text each
    rest = [c for c in found.columns if c.name not in clients and c.name not in files]
    labels = _labels(spec, [c for c in rest if not (texts and c.separator)], bool(texts))
    is_label = bool(labels) and _is_label(spec, labels[0], bool(texts))
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
    flags = {c.name: {text.removesuffix(".0") for text in c.examples} for c in rest if c.distinct in (2, 3)}
    flags = {name: there for name, there in flags.items() if {"0", "1"} <= there <= {"0", "1", "-1"}}
    if texts and len(flags) > 1 and not is_label:
        skip = {"data.on_bad_rows": "skip"} if any("-1" in there for there in flags.values()) else {}  # no one judged
        labels = {"data.label_columns": tuple(flags), **skip}
        return {"task.kind": "multi_label_classification", **text, **labels, **named}
    lists = [] if not texts or is_label else _lists_of_labels(rest)
    if lists and (not labels or lists[0].name.lower() in _LISTS):
        how = {"data.label_separator": lists[0].separator} if lists[0].separator else {}
        return {"task.kind": "multi_label_classification", **text, "data.label_column": lists[0].name, **how, **named}
    if texts and labels:
        regression = labels[0] in found.of_kind("number")
        kind = "sequence_regression" if regression else "sequence_classification"
        if not named and files:
            named = {"data.partition": "iid"}  # every text is a client of its own
        return {"task.kind": kind, **text, **label, **named}
    if texts:
        return {"task.kind": "masked_lm", "data.text_column": tuple(texts[:1]), **named}
    if not spec.client_column and not is_label and (series := names_of_series(found, clients)):
        named, labels = {"data.client_column": ",".join(series)}, []
        rest = [c for c in rest if c.name not in series]
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


def _pair(texts: Sequence[str]) -> list[str]:
    """Two texts of which one is asked how they relate, by usual names; empty if there are none, or more of a kind."""
    called = {"".join(words_of_name(name.split(".")[-1])): name for name in texts}
    several = [[f"{stem}{end}" for end in ends] for stem in _OF_TWO for ends in ("12", "ab")]
    more = {f"{stem}{end}" for stem in _OF_TWO for end in "03c"}
    pairs = [pair for pair in (*_PAIRS, *several) if {*pair} <= called.keys()]
    return [called[name] for name in pairs[0]] if pairs and not more & called.keys() else []


def _words_and_tags(found: Overview) -> dict[str, Any]:
    """Lists of words and of their tags, by usual names."""
    lists = found.of_kind("list")
    words = [name for name in lists if name.lower() in ("tokens", "words")]
    tags = [name for name in lists if _last_word(name) in ("tags", "tag", "labels")]
    return {"data.text_column": tuple(words[:1]), "data.label_column": tags[0]} if words and tags else {}


def _word_a_row(found: Overview) -> dict[str, Any]:
    """Words and tags of a table with a word a row, by usual names."""
    names = [column.name for column in found.columns]
    words = [name for name in names if _last_word(name) in ("word", "token", "form")]
    tags = [name for end in _TAGS for name in names if _last_word(name) == end]
    if not (words and tags and sentence_column(found.rows, words[0])):
        return {}
    return {"data.text_column": tuple(words[:1]), "data.label_column": tags[0]}


def _are_names(found: Overview) -> bool:
    """Whether texts are but names in a table of numbers and categories."""
    there = [
        str(row[name]) for name in found.of_kind("text") for row in found.rows if not values.is_empty(row.get(name))
    ]
    short = sum(len(text.split()) for text in there) < _WORDS_OF_A_NAME * len(there)
    columns = found.of_kind("number", "category")
    return short and len(columns) > _COLUMNS_OF_A_TABLE and bool(found.of_kind("number"))


def _words(name: str) -> list[str]:
    """The words of a column's name, without that it is an identifier."""
    words = words_of_name(name)
    return words[:-1] if len(words) > 1 and words[-1] in ("id", "name", "code", "key", "no", "nbr", "number") else words


def _last_word(name: str) -> str:
    return (_words(name) or [""])[-1]


def _clients(found: Overview) -> list[str]:
    """Columns that may be the client, the likeliest first: by the last word of their names."""
    last = {name: _last_word(name) for name in found.of_kind("category", "id", "number")}
    several = {column.name for column in found.columns if column.distinct < found.num_rows}
    usual = [name for name in last if last[name] in _CLIENT_NAMES and name in several]
    return sorted(usual, key=lambda name: (_CLIENT_NAMES.index(last[name]), len(_words(name))))


def _is_label(spec: DataSpec, name: str, of_texts: bool) -> bool:
    ends = _LABEL_ENDS + _OPINIONS if of_texts else _LABEL_ENDS
    return name == spec.label_column or name.lower() in _LABEL_NAMES or _last_word(name) in ends


def _labels(spec: DataSpec, columns: Sequence[Column], of_texts: bool) -> list[str]:
    """Columns that may be the label, the likeliest first: the named one, one with a usual name, one with categories."""
    scalars = [c.name for c in columns if c.kind in ("category", "number", "id")]
    if spec.label_column in scalars:
        return [spec.label_column]
    usual = sorted((n for n in scalars if n.lower() in _LABEL_NAMES), key=lambda n: _LABEL_NAMES.index(n.lower()))
    others = [name for name in scalars if name not in usual and _is_label(spec, name, of_texts)]
    return [*usual, *others, *(c.name for c in columns[::-1] if c.kind == "category" and c.distinct > 1)]
