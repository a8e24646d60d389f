"""The labels of data whose model starts from a classifier: its outputs keep their meaning."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

from tff_tx.core.errors import UserError, setting

_MOST_SHOWN = 10


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
    return Labels(names, note=f"{note}; set data.label_names if it is another")


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
