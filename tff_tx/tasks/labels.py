"""The labels of data whose model starts from a classifier: its outputs keep their meaning."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

from tff_tx import datasets
from tff_tx.core.errors import UserError, setting, shown
from tff_tx.datasets.readers import values

_MOST_SHOWN = 10
_MANY = 20
"""Labels that are more may be something else than classes."""


class Labels(NamedTuple):
    """Labels of a model.

    Attributes:
      names: In the order of its outputs.
      are_new: Whether the outputs of its checkpoint have other meanings.
      note: What is to be said of them, in a line; empty: nothing.
    """

    names: tuple[str, ...]
    are_new: bool = False
    note: str = ""


def as_found(names: Sequence[str], num_rows: int) -> Labels:
    """Labels that nobody named, of so many records with one each, if they may be classes.

    Raises:
      UserError: If they cannot be: there is one alone, or one for each record, or they are fractions.
    """
    names = tuple(names)
    remedy = f"another {setting('data.label_column')}, or name the labels with {setting('data.label_names')}"
    if len(names) == 1:
        raise UserError(
            f"all {num_rows:,} records have the label {names[0]!r}, and nothing can be learned: choose {remedy}."
        )
    if len(names) == num_rows > _MANY:
        raise UserError(
            f"each of the {num_rows:,} records has a label of its own, such as {names[0]!r}: choose {remedy}."
        )
    numbers = [number for name in names if (number := _number(name)) is not None]
    absent = [name for name in names if values.is_missing_number(name)]
    is_class = datasets.absent_label_note(names)
    fractions, known = sum(not number.is_integer() for number in numbers), len(names) - len(absent)
    if len(numbers) < known or known <= (2 if fractions else _MANY):
        return Labels(names, note=is_class)
    what = f"the labels are {known:,} numbers from {min(numbers):g} to {max(numbers):g}"
    if fractions and known > _MANY:
        raise UserError(f"{what}, and no classes: choose a task of regression in {setting('task.kind')}, {remedy}.")
    is_each = f"{what}, and each is a class: if they are values, choose a task of regression"
    return Labels(names, note="; ".join(filter(None, [is_each, is_class])))


def _number(name):
    try:
        return None if values.is_missing_number(name) else float(name)
    except ValueError:
        return None


def as_trained(names: Sequence[str], outputs: Sequence[str], is_named: bool, pretrained: str) -> Labels:
    """The labels of data as a checkpoint has them; each is the output of its name, in another case if need be.

    Args:
      names: Labels of the data, in order.
      outputs: Those of the checkpoint, in order, see `models.output_names`; empty: it is no classifier.
      is_named: Whether somebody named the labels; otherwise they are those that the data happen to have.
      pretrained: The checkpoint.

    Raises:
      UserError: If labels that nobody named are no outputs of the checkpoint.
    """
    names, outputs = tuple(names), tuple(outputs)
    if not outputs or names == outputs:
        return Labels(names)
    if outputs == tuple(f"LABEL_{number}" for number in range(len(outputs))) and not set(names) <= set(outputs):
        return _of_unnamed(names, len(outputs), pretrained)
    unknown = _unknown(names, outputs)
    if not unknown:
        return Labels(outputs, note=f"labels in the order of {pretrained}: {_listed(outputs)}")
    if is_named:
        note = (
            f"{pretrained} is a classifier of {_listed(outputs)}, not of {_listed(unknown)}: its outputs are made anew"
        )
        return Labels(names, True, note)
    raise UserError(
        f"{setting('model.pretrained')}={pretrained} is a classifier of {_listed(outputs)}, which the labels "
        f"{_listed(unknown)} of the data cannot be matched with: correct them, or name all labels with "
        f"{setting('data.label_names')} to train a new classifier."
    )


def _of_unnamed(names, number, pretrained):
    numbers = tuple(map(str, range(number)))
    if set(names) <= set(numbers):
        return Labels(numbers)
    if len(names) != number:
        return Labels(names)  # whose outputs have other shapes, and so are new anyway
    note = f"the outputs of {pretrained}, LABEL_0 to LABEL_{number - 1}, are taken for {_listed(names)}, in this order"
    return Labels(names, note=shown(f"{note}; set {setting('data.label_names')} if it is another"))


def _unknown(names, outputs):
    """Names that are no output, or the same one as others."""
    by_case = collections.defaultdict(list)
    for output in outputs:
        by_case[output.casefold()].append(output)
    exact = set(outputs)
    found = {name: [name] if name in exact else by_case[name.casefold()] for name in names}
    uses = collections.Counter(place for (place, *_) in filter(None, found.values()))
    return [name for name, places in found.items() if len(places) != 1 or uses[places[0]] > 1]


def _listed(names):
    return ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")
