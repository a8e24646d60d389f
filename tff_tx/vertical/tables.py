"""A party's rows as arrays: read, in the common order, with what it finds out about its own columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx import datasets, models
from tff_tx.config.vertical import PartyConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers import units, values
from tff_tx.datasets.readers.columns import require_one_writing
from tff_tx.datasets.sources import file_digest
from tff_tx.federation.alignment import RowOrder

_BATCH = 64

Row = "tuple[str, Mapping[str, Any]]"
"""A row's place, for messages, and its values by column."""


@dataclasses.dataclass(frozen=True)
class PartyData:
    """The common rows of a party.

    Attributes:
      inputs: Arrays [rows, ...] of its bottom's inputs; empty for a party with labels alone.
      labels: int32 or float32 [rows]; None: it has none.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class PartyRows:
    """The rows of a party.

    Attributes:
      rows: Those in common, in the common order, and behind these the further ones, as they stand.
      places: int64 [rows], where each stands in the party's table, from 0.
      common: Number of those in common.
      alignment: Tag of their order, "" without one.
    """

    rows: list[Row]
    places: np.ndarray
    common: int
    alignment: str


def read_rows(spec: datasets.DataSpec, name: str, party: PartyConfig, with_further: bool = False) -> PartyRows:
    """The rows of a party: those in common, and with `with_further` also those that its order does not have.

    Raises:
      UserError: If they cannot be read, or the order is of another table.
    """
    if party.files:
        spec = dataclasses.replace(spec, dataset="file", files=party.files)
    try:
        rows = list(_rows(spec))
    except UserError as error:
        raise error.within(f"{setting('vertical.parties')}: {name}") from None
    if party.order is None:
        return PartyRows(rows, np.arange(len(rows)), len(rows), "")
    order = RowOrder.load(party.order)
    if not party.files or order.table != file_digest(party.files):
        raise UserError(
            f"{setting('vertical.parties')}: {name}: {party.order} is the order of another table than "
            f"{', '.join(party.files) or 'the data'}, or of an earlier version of it: align anew, all parties together."
        )
    places = np.array(order.rows, np.int64)
    if with_further:
        places = np.concatenate([places, np.setdiff1d(np.arange(len(rows)), places)])
    return PartyRows([rows[place] for place in places], places, len(order.rows), order.alignment)


def _rows(spec):
    source = datasets.open_source(spec)
    columns = source.columns()
    wants = {"row"} if spec.files else columns & {"pixels", "numbers", "label"}
    for chunk in source.pools["train"](wants):
        for record in chunk.to_dict("records"):
            numbers = dict(zip(source.numeric_names, record.get("numbers", ())))
            yield record["where"], record.get("row", {**record, **numbers})


def find_facts(party: PartyConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """What a party's bottom must know of its columns: fields of `FtTransformerConfig`.

    Args:
      party: The party.
      rows: Its training rows.

    Raises:
      UserError: If a column is missing or has another kind of value.
    """
    if party.kind != "table":
        return {}
    numbers = np.array([_column(rows, name, values.as_number_or_nan) for name in party.numeric], np.float64)
    known = [sorted(set(_column(rows, name, values.as_category))) for name in party.categorical]
    means = [float(np.nan_to_num(np.nanmean(column))) for column in numbers]
    deviations = [float(np.nan_to_num(np.nanstd(column))) for column in numbers]
    found = {
        "numeric_features": list(party.numeric),
        "means": means,
        "deviations": deviations,
        "categorical_features": list(party.categorical),
        "categories": known,
    }
    return {**found, **{name: party.config[name] for name in found if name in party.config}}


def label_names(spec: datasets.DataSpec, party: PartyConfig, rows: Sequence[Row]) -> list[str]:
    """The classes: those that are named, or else of a party's labels, in order.

    Raises:
      UserError: If some are spellings of one.
    """
    found = set(_column(rows, party.label, values.as_label))
    return list(spec.known_labels or datasets.distinct_label_names(found, False, party.label))


def party_data(
    party: PartyConfig, rows: Sequence[Row], facts: Mapping[str, Any], classes: Sequence[str] | None, max_length: int
) -> PartyData:
    """A party's rows as arrays.

    Args:
      party: The party.
      rows: Its rows, in the common order.
      facts: Of `find_facts`.
      classes: Names of the classes; None: labels are numbers.
      max_length: Maximum number of tokens of a text.

    Raises:
      UserError: If a column is missing, or has another kind of value, or a label is none of the classes.
    """
    inputs = _inputs(party, rows, facts, max_length)
    if party.trainable == "none":
        inputs = {"features": _features(party, inputs)}
    if party.label is None:
        return PartyData(inputs)
    if classes is None:
        return PartyData(inputs, np.array(_column(rows, party.label, values.as_number), np.float32))
    names = _column(rows, party.label, values.as_label)
    found = list(map(datasets.label_lookup(classes), names))
    if None in found:
        where, name = rows[found.index(None)][0], names[found.index(None)]
        raise datasets.unknown_label(where, name, classes)
    return PartyData(inputs, np.array(found, np.int32))


def _inputs(party, rows, facts, max_length):
    if party.kind == "text":
        tokenizer = models.load_tokenizer(party.pretrained)
        encoded = tokenizer(
            _column(rows, party.text, values.as_text),
            truncation=True,
            max_length=max_length,
            padding="max_length",
            return_tensors="np",
        )
        return {name: encoded[name].astype(np.int32) for name in ("input_ids", "attention_mask")}
    if party.kind == "image":
        first, last = party.image
        pixels = np.stack(_column(rows, "pixels", lambda value: np.asarray(value, np.float32)))[..., first:last]
        if pixels.shape[-1] != last - first:
            raise UserError(f"{setting('vertical.parties')}: images have no columns {first} to {last} of pixels.")
        return {"pixel_values": pixels}
    found = {}
    if party.numeric:
        columns = [_column(rows, name, values.as_number_or_nan) for name in party.numeric]
        found["numbers"] = np.array(columns, np.float32).T
    if party.categorical:
        numbered = [{value: i + 1 for i, value in enumerate(known)} for known in facts["categories"]]
        columns = [
            [places.get(value, 0) for value in _column(rows, name, values.as_category)]
            for name, places in zip(party.categorical, numbered)
        ]
        found["categories"] = np.array(columns, np.int32).T
    return found


def _features(party, inputs):
    """Activations of a frozen checkpoint, computed once: float32 [rows, tokens or 1, hidden]."""
    from tff_tx.vertical.networks import mean_token
    from tff_tx.vertical.saved import load_encoder

    model = load_encoder(party)
    found, rows = [], len(next(iter(inputs.values())))
    for start in range(0, rows, _BATCH):
        batch = {name: array[start : start + _BATCH] for name, array in inputs.items()}
        tokens = model(batch)
        tokens = getattr(tokens, "last_hidden_state", tokens)
        found.append((mean_token(tokens, batch.get("attention_mask")) if party.pools else tokens).numpy())
    return np.concatenate(found)


def _column(rows, name, convert):
    found, is_numeric = [], convert in (values.as_number, values.as_number_or_nan)
    for where, row in rows:
        if name not in row:
            raise UserError(f"{where}: there is no column {name!r}; the columns are {', '.join(map(str, row))}.")
        try:
            found.append(convert(units.without_unit(row[name]) if is_numeric else row[name]))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{where}: the column {name!r} has {row[name]!r}, which cannot be used ({error})."
            ) from None
    if is_numeric:
        require_one_writing([where for where, _ in rows], [row[name] for _, row in rows], name)
    return found
