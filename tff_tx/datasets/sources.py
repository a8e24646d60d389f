"""From a `DataSpec` to the records it describes."""

from __future__ import annotations

from tff_tx.datasets import embedded
from tff_tx.datasets.readers import file_source
from tff_tx.datasets.records import Source
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.tff_sets import tff_source

_EMBEDDED = {"stdlib": embedded.stdlib, "digits": embedded.digits}


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
