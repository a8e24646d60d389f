"""The survey of a data set: what must be known of raw data before they can be dealt and encoded."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Callable

import numpy as np

from tff_tx.core.errors import UserError, setting, shown
from tff_tx.core.text import listed
from tff_tx.datasets.readers import values
from tff_tx.datasets.sources import Source
from tff_tx.datasets.spec import DataSpec

_NO_LABEL = ("-1", "-1.0")
"""What the hub's data sets have in place of labels that are not published."""

INDICATOR = " is missing"
"""After the name of a numeric column, that of the column which is 1 where it has no value."""


@dataclasses.dataclass(frozen=True)
class Features:
    """The columns of a table: names of those with numbers and with categories; sorted values of each of the latter."""

    numeric: tuple
    categorical: tuple
    categories: tuple

    @property
    def reading(self) -> dict[str, Any]:
        """The fields of a `DataSpec` that read these columns."""
        stored = tuple(name for name in self.numeric if not name.endswith(INDICATOR))
        missing = "mean" if len(stored) < len(self.numeric) else "refuse"
        return {"numeric_columns": stored, "missing_numbers": missing, "categorical_columns": self.categorical}


@dataclasses.dataclass(frozen=True)
class PoolSurvey:
    """One split as the data come; a few bytes a record, however long the records are.

    Attributes:
      digest: Changes when the content does.
      num_rows: The number of records.
      columns: The record columns of the first record.
      label_values: The labels in the order in which they first occur; several of a record or words in any order.
      labels: int32 [records], index into `label_values`; empty for several and for tags.
      client_ids: The clients in the order in which they first occur.
      clients: int32 [records], index into `client_ids`; empty if records have no client.
      categories: The values of each categorical column, in alphabetical order.
      shape: Shape of the first image as it is stored; empty if there is none.
      unreadable: The record columns that were looked for and cannot be read.
      rows_left_out: The number of rows that cannot be read.
      first_left_out: What is wrong with the first of them.
      clients_left_out: The number of clients without an example.
    """

    digest: str
    num_rows: int
    columns: frozenset
    label_values: tuple
    labels: np.ndarray
    client_ids: tuple
    clients: np.ndarray
    categories: tuple
    shape: tuple
    unreadable: tuple
    rows_left_out: int = 0
    first_left_out: tuple = ()
    clients_left_out: int = 0


@dataclasses.dataclass(frozen=True)
class Survey:
    """What must be known of a data set before it can be dealt and encoded, whatever the encoder.

    A column that cannot be read is no error until something needs it: not every task reads every column.

    Attributes:
      pools: Split name as the data have them ("train", ...) -> survey of the split.
      source: The records.
      spec: What was surveyed.
      without_labels: Names of splits that were left out, see `having`.
    """

    pools: Mapping[str, PoolSurvey]
    source: Source
    spec: DataSpec
    without_labels: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the content of the training data; that of held-out data of their own is in `pools`."""
        return self.pools["train"].digest

    def having(self, wants: Iterable[str]) -> Survey:
        """The survey without held-out splits that no setting names and that lack the labels which are wanted.

        Competitions and benchmarks such as GLUE publish their test data so: without the column, or with -1 or nothing
        in it. Then test data are held out of the training data, as if the split were not there.
        """
        wants = frozenset(wants) & {"label", "labels", "tags", "target"} & self.pools["train"].columns
        of_files = self.pools.keys() - {"train"} if self.spec.dataset == "file" else ()
        unnamed = [name for name in self.pools if name in of_files and not getattr(self.spec, f"{name}_files")]
        without = tuple(name for name in unnamed if any(self._lacks(name, column) for column in wants))
        pools = {name: pool for name, pool in self.pools.items() if name not in without}
        return dataclasses.replace(self, pools=pools, without_labels=without)

    def _lacks(self, name: str, column: str) -> bool:
        pool, labels = self.pools[name], {*self.pools["train"].label_values}
        if column not in pool.columns:
            return True
        if column != "label":
            return False
        found = pool.label_values
        if column in pool.unreadable:  # as where a row has none; those of the first rows tell
            found = [row.get(self.spec.label_column) for _, row in next(self.source.pools[name].chunks()).rows]
        return all(str(v) not in labels and (values.is_missing_number(v) or str(v) in _NO_LABEL) for v in found)

    def require(self, pool: str, column: str) -> None:
        """Rejects a record column of a pool that cannot be read; the message names the place in the data."""
        if column in self.pools[pool].unreadable:
            for _ in self.source.pools[pool]([column]):
                pass
            raise UserError(f"the {pool} data changed while they were read; start again.")

    @property
    def notes(self) -> list[str]:
        """What was recognized of the files, and left out, in lines."""
        found = [*self.source.notes(), *self.notes_without_labels]
        for name, pool in self.pools.items():
            if pool.rows_left_out:
                share = f"{pool.rows_left_out:,} of {pool.rows_left_out + pool.num_rows:,} rows of the {name} data"
                found.append(f"{share} are skipped, the first: {shown(' '.join(pool.first_left_out))}")
            if pool.clients_left_out:
                found.append(f"{pool.clients_left_out:,} clients of the {name} data have no example, and are left out.")
        return found

    @property
    def notes_without_labels(self) -> list[str]:
        """Which splits were left out, in lines."""
        return [f"The {name} data have no labels, and are left out." for name in self.without_labels]

    @property
    def tagged(self) -> bool:
        """Whether labels are one a word (`tags`)."""
        return self.label_column == "tags"

    @property
    def label_column(self) -> str:
        """The record column of the labels: `tags`, several of a record in `labels`, or `label`."""
        return next((name for name in ("tags", "labels") if name in self.pools["train"].columns), "label")

    @property
    def label_names(self) -> tuple:
        """The label names in the order of the classes of a model, see `ordered_label_names`.

        Those of all training files, whatever part of them is held out later. A record without one is an error.
        """
        if known := self.spec.known_labels:
            return known
        if self.spec.client_column is not None and self.spec.partition in ("auto", "column"):
            self.require("train", "client")  # of two columns that are not there the client's is said first
        self.require("train", self.label_column)
        found, named = self.pools["train"].label_values, self.source.label_names()
        return named if set(found) <= set(named) else distinct_label_names(found, self.tagged, self.spec.label_column)

    @property
    def image_shape(self) -> tuple:
        """(channels, height, width) of the first training image; an error if there are no images."""
        self.require("train", "pixels")
        return channels_height_width(self.pools["train"].shape)

    @property
    def features(self) -> Features:
        """The columns of a table; an error if none are named, or a categorical column cannot be read."""
        numeric = tuple(self.spec.numeric_columns) or self.source.numeric_names
        if self.spec.missing_numbers == "mean":
            numeric += tuple(name + INDICATOR for name in numeric)
        categorical = tuple(self.spec.categorical_columns)
        if not numeric and not categorical:
            raise UserError(
                f"{setting('data.numeric_columns')} and {setting('data.categorical_columns')} are empty: name the "
                "columns of the table that classes are to be told from."
            )
        if categorical:
            self.require("train", "categories")
        found = zip(categorical, self.pools["train"].categories)
        named = (map(values.as_category, self.spec.categories.get(name, v)) for name, v in found)
        return Features(numeric, categorical, tuple(map(tuple, named)))


def ordered_label_names(found: Iterable[str], tagged: bool) -> tuple:
    """Label names in the order of the classes of a model.

    Numbers come in the order of their value, other names in alphabetical order; tags of words, if they are `tagged`,
    with "O" first and B- before I-.
    """
    return tuple(sorted(found, key=_tag_order if tagged else _label_order))


def distinct_label_names(found: Collection[str], tagged: bool, column: str) -> tuple:
    """`ordered_label_names` of a column, if no two are spellings of one, nor one among numbers says that there is none.

    Tags may be.
    """
    absent, numbers = ([name for name in found if of(name)] for of in (values.is_missing_number, values.is_number))
    are_classes = len(numbers) <= _MOST_SPELLINGS and all(values.as_number(name).is_integer() for name in numbers)
    if not tagged and absent and numbers and len(numbers) + len(absent) == len(found) and are_classes:
        raise UserError(
            f"{setting('data.label_column')}={column}: the label {absent[0]!r} stands among numbers, as where there is "
            f"none: remove such rows, name the others in {setting('data.label_names')} with "
            f"{setting('data.on_bad_rows')}=skip to leave them out, or it too, if it is a class."
        )
    if not tagged and len(one := one_spelling(found)) < len(found):
        twice, spelling = min(name for name in found if name not in one), _speller(found)
        spellings = sorted(name for name in found if spelling(name) == spelling(twice))
        named = f"as in {setting('data.label_names')}={','.join(one)}"
        if any("," in name for name in one):
            named = f"a line each in a {setting('data.label_file')}"
        raise UserError(
            f"{setting('data.label_column')}={column}: the labels {listed(map(repr, spellings))} are spellings of one; "
            f"name those that are meant, to which the others are matched, {named}, or correct them."
        )
    return ordered_label_names(found, tagged)


def absent_label_note(names: Iterable[str]) -> str:
    """That a label by which files say that there is none is a class; empty if no label is one."""
    absent = next(filter(values.is_missing_number, names), None)
    return "" if absent is None else f"{absent!r} is a class, as other labels are: if it says there is none, remove it"


_MOST_SPELLINGS = 100


def one_spelling(found: Iterable[str]) -> tuple:
    """Labels in the models' order, of those that differ in case, or as 1 and 1.0 do, the shortest or else the first.

    Of single letters, and of more labels than are written by hand, each is another one. Where all say yes or no, in
    several words for one of these, there are two.
    """
    found = tuple(found)
    first, spelling = {}, _speller(found)
    for name in found:
        before = first.setdefault(spelling(name), name)
        first[spelling(name)] = min(before, name, key=len)
    return ordered_label_names(first.values() if len(first) <= _MOST_SPELLINGS else found, False)


_TRUTH = {
    **dict.fromkeys(("1", "y", "yes", "t", "true", "j", "ja", "wahr", "o", "oui", "vrai", "si", "sí"), "1"),
    **dict.fromkeys(("0", "n", "no", "f", "false", "nein", "falsch", "non", "faux"), "0"),
}


def _speller(found: Collection[str]) -> Callable[[str], str]:
    """What spellings of one label have in common."""
    truths = [_TRUTH.get(_folded(name)) for name in found]
    if None in truths or len({*truths}) < 2 or all(len(name) == 1 for name in found):
        return _spelling
    return lambda name: _TRUTH[_folded(name)]


def _spelling(name: str) -> str:
    return _folded(name) if len(name) > 1 else name


def _folded(name: str) -> str:
    return re.sub(r"^(\d+)\.0$", r"\1", name).casefold()


def label_lookup(names: Sequence[str]) -> Callable[[str], int | None]:
    """From a label as data have it to its number; None: it is not known.

    Data have a name, maybe in another case or with .0 after a whole number, or where no name is a number, the number
    itself; where names say yes and no, any word for these. Numbers are not known to names that say yes before no, nor
    an o to names that are numbers, of which it may be the zero.
    """
    exact = {name: number for number, name in enumerate(names)}
    counts = collections.Counter(map(_folded, names))
    others = {_folded(name): number for name, number in exact.items() if counts[_folded(name)] == 1}
    has_numbers = any(map(str.isdecimal, counts))
    if not has_numbers:
        others.update((str(number), number) for number in exact.values())
    truths = {_TRUTH.get(_folded(name)): number for name, number in exact.items()}
    if len(exact) == 2 and {*truths} == {"0", "1"}:
        are_letters = not has_numbers and all(len(name) == 1 for name in names)
        words = {word: truths[truth] for word, truth in _TRUTH.items() if len(word) > 1 or not are_letters}
        unclear = {"o"} if has_numbers else {"0", "1"} if truths["1"] == 0 else {}
        others = {word: number for word, number in {**words, **others}.items() if word not in unclear}
    return lambda name: exact.get(name, others.get(_folded(name)))


def unknown_label(where: str, name: str, names: Sequence[str]) -> UserError:
    """The error of a label that `label_lookup` of `names` does not know, at a place."""
    known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return UserError(
        f"{where}: the label {name!r} is not one of the {len(names)} known labels ({known}); correct the row, or name "
        f"all labels with {setting('data.label_names')}."
    )


def _label_order(label: str) -> tuple:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)


def _tag_order(tag: str) -> tuple:
    prefix, _, entity = tag.partition("-")
    return (tag != "O", entity, _label_order(prefix))


def channels_height_width(shape: tuple) -> tuple:
    """(channels, height, width) of an image that is stored as an array of some shape; others are an error."""
    if len(shape) == 1:
        for channels in (1, 3, 4):
            side = int(round((shape[0] / channels) ** 0.5))
            if channels * side * side == shape[0]:
                return (channels, side, side)
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return tuple(shape)
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return (shape[2], *shape[:2])
    raise UserError(
        f"{setting('data.files')}: an image of the shape {list(shape)} is neither [H, W], [H, W, C], [C, H, W] "
        "with 1, 3 or 4 channels, nor a flat square; convert the images."
    )
