"""From a `DataSpec` to the records it describes."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from tff_tx.datasets import embedded
from tff_tx.datasets.readers import file_source
from tff_tx.datasets.records import Source
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.tff_sets import tff_source

_EMBEDDED = {"stdlib": embedded.stdlib, "digits": embedded.digits, "breast_cancer": embedded.breast_cancer}


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
    if spec.dataset == "file":
        return file_source(spec)
    if spec.dataset.startswith("tff:"):
        return tff_source(spec.dataset, spec.cache_dir)
    return _EMBEDDED[spec.dataset]()
