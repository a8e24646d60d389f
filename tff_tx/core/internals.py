"""The guard around what this package replaces in other libraries, for the length of a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import MutableMapping
from typing import Any, NamedTuple

lock = threading.RLock()
"""Held while anything is replaced, and while graphs of models are made: what is replaced is the whole process's."""

ABSENT = object()
"""In place of a value: the attribute is not there."""


@contextlib.contextmanager
def swapped(*swaps: tuple[Any, str, Any]):
    """Gives attributes other values for the length of a block, under `lock`; they are restored however it ends.

    A layer's attributes are replaced in its `__dict__`, past Keras' own `__setattr__`, which would track the values.
    `tff_tx.models.tracing` and `tff_tx.runtime.internals` alone use it, see their `INTERNALS`.

    Args:
      *swaps: (owner, name, value): an object, module or class and its attribute, or a dictionary and its key. With
        `ABSENT` for the value, the attribute or key is not there within the block.
    """
    with lock, contextlib.ExitStack() as undo:
        for owner, name, value in swaps:
            before = _own(owner).get(name, ABSENT)
            undo.callback(_put, owner, name, before)
            _put(owner, name, value)
        yield


def _own(owner):
    return owner if isinstance(owner, MutableMapping) else vars(owner)


def _put(owner, name, value) -> None:
    if isinstance(owner, type):  # whose `__dict__` is read-only
        delattr(owner, name) if value is ABSENT else setattr(owner, name, value)
    elif value is ABSENT:
        _own(owner).pop(name, None)
    else:
        _own(owner)[name] = value


class Internal(NamedTuple):
    """A row of the tables of what this package uses that other libraries do not promise to keep.

    Attributes:
      symbol: What is used or replaced.
      why: What for.
      since: The version of its library in which it is known to be so.
      test: The test that fails when it is not, "file::function" within tests/.
    """

    symbol: str
    why: str
    since: str
    test: str
