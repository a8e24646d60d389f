"""From a `DataSpec` to the records it describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tff_tx.config.registries import DATASETS
from tff_tx.datasets.records import Source
from tff_tx.datasets.spec import DataSpec

if TYPE_CHECKING:
    import pandas as pd


def read_records(spec: DataSpec, *columns: str) -> Iterator[pd.DataFrame]:
    """The training records of a data set, in chunks; see `records` for their columns.

    Args:
      spec: Which data.
      columns: Of the records. "client" is left out if the records have none.

    Raises:
      UserError: If the data cannot be read.
    """
    source = open_source(spec)
    wants = set(columns) if "client" in source.columns() else set(columns) - {"client"}
    return source.pools["train"](frozenset(wants))


def open_source(spec: DataSpec) -> Source:
    """The records of a data set; nothing but names is checked before they are read.

    Raises:
      UserError: If files do not exist or their format is unknown.
    """
    return DATASETS[spec.dataset].open(spec)
