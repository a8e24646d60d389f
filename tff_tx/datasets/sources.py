"""From a `DataSpec` to the records it describes, and data sets that have a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable

from tff_tx.config.registries import DATASETS
from tff_tx.datasets.records import Source
from tff_tx.datasets.spec import DataSpec

if TYPE_CHECKING:
    import pandas as pd


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


def read_records(spec: DataSpec, *columns: str) -> Iterator[pd.DataFrame]:
    """The training records of a data set, in chunks with these columns, see `records`; "client" only if they have it.

    Raises:
      UserError: If the data cannot be read.
    """
    source = open_source(spec)
    return source.pools["train"](set(columns) if "client" in source.columns() else set(columns) - {"client"})


def open_source(spec: DataSpec) -> Source:
    """The records of a data set; nothing but names of files and formats is checked before they are read."""
    return DATASETS[spec.dataset].open(spec)
