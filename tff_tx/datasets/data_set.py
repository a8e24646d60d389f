"""A data set that has a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

from tff_tx.datasets.records import Source

if TYPE_CHECKING:
    from tff_tx.datasets.spec import DataSpec


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Where the records of a named data set come from, and what it is trained with unless something else is chosen.

    Attributes:
      open: From a `DataSpec` to the records; heavy libraries are imported only when it is called.
      defaults: Default settings of a run: "task", "architecture", "tokenizer", "model_config" and "local_steps", those
        that apply.
    """

    open: Callable[[DataSpec], Source]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
