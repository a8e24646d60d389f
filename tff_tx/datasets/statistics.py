"""What a data set looks like once it is dealt: sizes, labels and lengths over clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Callable

import numpy as np
import pandas as pd

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets import splits
from tff_tx.datasets.assignment import DROPPED, assign
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.survey_pass import survey
from tff_tx.datasets.surveys import label_lookup

_MOST_CELLS = 10_000_000
"""Labels are counted client by client as long as that makes no larger a table, 80 MB."""

_WITH_LENGTH = ("text", "tokens", "context", "messages")
_CONTENT = ("numbers", "categories", *_WITH_LENGTH, "pixels", "audio")


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """One split in numbers; the rows of the arrays are clients in the same order.

    Attributes:
      records: int64 [clients], records a client.
      labels: int64 [clients, labels], how often a client has a label; None if there are no labels, or too many.
      lengths: int64 [records], tokens a record; None if the records are no texts.
      tokens: int64 [clients], tokens a client; None if the records are no texts.
    """

    records: np.ndarray
    labels: np.ndarray | None
    lengths: np.ndarray | None
    tokens: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """A data set in numbers: split name -> statistics, and the names of the label columns."""

    splits: dict[str, SplitStatistics]
    label_names: tuple


def describe(spec: DataSpec, count_tokens: Callable[[Sequence[str]], Sequence[int]]) -> Statistics:
    """Reads and deals a data set as `load` does, and counts instead of encoding.

    `count_tokens` gives the number of tokens of each text.

    Raises:
      UserError: If the data or the spec are wrong, or a label of another split is not in training.
    """
    source, found = open_source(spec), survey(spec)
    columns = found.pools["train"].columns
    label = next((name for name in ("tags", "labels", "label") if name in columns), None)
    if label is None and spec.label_column != DataSpec.label_column:
        label = "label"
    named = label != "label" or spec.text_column != DataSpec.text_column
    content = next((name for name in _CONTENT if name in columns), "text" if named else None)
    names = found.label_names if label else ()
    wants = [*filter(None, [content, label])]
    parts: dict[int, list] = {}
    for pool, assignment in assign(spec, found.having(wants)).items():
        for chunk, codes, owners in assignment.dealt(source.pools[pool], wants):
            counted = pd.DataFrame({"owner": owners})
            if content in _WITH_LENGTH:
                counted["length"] = _lengths(chunk, content, count_tokens)
            if label:
                counted["labels"] = _label_numbers(chunk, label, names, spec.on_bad_rows == "skip")
                known = counted["labels"].notna().to_numpy()
                counted, codes = counted[known], codes[known]
            for code in np.unique(codes[codes != DROPPED]):
                parts.setdefault(int(code), []).append(counted[codes == code])
    tables = {code: pd.concat(tables) for code, tables in sorted(parts.items())}
    return Statistics({splits.NAMES[code]: _summed(table, len(names)) for code, table in tables.items()}, names)


def _lengths(chunk: pd.DataFrame, content: str, count_tokens) -> list:
    if content == "tokens":
        return [sum(count_tokens(words)) for words in chunk["tokens"]]
    if content == "messages":
        return [sum(count_tokens([one["content"] for one in messages])) for messages in chunk["messages"]]
    return list(count_tokens(chunk[content].tolist()))


def _label_numbers(chunk: pd.DataFrame, label: str, names: Sequence[str], skips: bool) -> list:
    """The numbers of each record's labels; None for a record with another one, if it `skips` these."""
    number_of = label_lookup(names)
    listed = chunk[label] if label != "label" else chunk[label].map(lambda value: [value])
    found = []
    for where, values in zip(chunk["where"], listed):
        numbers = [number_of(value) for value in values]
        unknown = [value for value, number in zip(values, numbers) if number is None]
        if unknown and not skips:
            raise UserError(
                f"{where}: the label {unknown[0]!r} does not occur in the training data; correct the row, name all "
                f"labels with {setting('data.label_names')}, or leave such rows out with "
                f"{setting('data.on_bad_rows')}=skip."
            )
        found.append(None if unknown else numbers)
    return found


def _summed(table: pd.DataFrame, num_labels: int) -> SplitStatistics:
    owners, clients = pd.factorize(table["owner"])
    lengths = tokens = labels = None
    if "length" in table:
        lengths = table["length"].to_numpy(np.int64)
        tokens = np.bincount(owners, weights=lengths).astype(np.int64)
    if "labels" in table and len(clients) * num_labels <= _MOST_CELLS:
        repeats = table["labels"].map(len).to_numpy()
        flat = np.concatenate([np.asarray(row, np.int64) for row in table["labels"]])
        cells = np.repeat(owners, repeats) * num_labels + flat
        labels = np.bincount(cells, minlength=len(clients) * num_labels).reshape(len(clients), num_labels)
    return SplitStatistics(np.bincount(owners), labels, lengths, tokens)
