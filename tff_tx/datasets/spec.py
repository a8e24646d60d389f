"""Which data to load, and how to deal them to clients."""

from __future__ import annotations

import dataclasses

from tff_tx.config import DataConfig, RunConfig, check
from tff_tx.config.rules import DATA
from tff_tx.datasets import splits


@dataclasses.dataclass(frozen=True)
class DataSpec(DataConfig):
    """The section `data` of a configuration, with the seed that decides dealing and splitting.

    With partition "auto" the data's own clients are used if there are any, else "iid"; with "column" and `num_clients`
    below theirs, some of them are drawn at random. Data with a test split of their own keep that. A part to hold out is
    a fraction, or a number of clients or examples (of a client, with the splits "within_client" and "time").

    Raises:
      UserError: At construction, if a setting has a value that it cannot have, whatever the data are.
    """

    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        check(RunConfig(data=self), DATA)
        splits.check_part("validation_fraction", self.validation_fraction)
        splits.check_part("test_fraction", self.test_fraction)
