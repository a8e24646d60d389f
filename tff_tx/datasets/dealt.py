"""Records as they are dealt: those of one split, with whose they are."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from tff_tx.datasets import splits
from tff_tx.datasets.assignment import assign
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.survey_pass import survey


def dealt_records(spec: DataSpec, split: str, *columns: str) -> Iterator[pd.DataFrame]:
    """The records of a split in chunks, dealt as `load` deals them before it encodes them.

    Args:
      spec: Which data.
      split: "train", "validation" or "test".
      columns: Of the records, see `records`; "client" is added, the id of the client of the split.

    Raises:
      UserError: If the data cannot be read or dealt.
    """
    source, code = open_source(spec), splits.NAMES.index(split)
    for pool, assignment in assign(spec, survey(spec)).items():
        start = 0
        for chunk in source.pools[pool](frozenset(columns)):
            rows = slice(start, start + len(chunk))
            start += len(chunk)
            kept = assignment.codes[rows] == code
            owners = assignment.owners[rows][kept]
            if len(owners):
                yield chunk[kept].assign(client=[assignment.client_ids[code][owner] for owner in owners])
