"""The description of a data set: which data, and how they are dealt to clients."""

from __future__ import annotations

import dataclasses

from tff_tx.config.data import DataConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets import splits


@dataclasses.dataclass(frozen=True)
class DataSpec(DataConfig):
    """The settings of data, see `tff_tx.config.DataConfig`, with the seed of dealing and splitting.

    Attributes:
      seed: Of dealing and splitting.

    Raises:
      UserError: If settings are out of range or contradict one another, whatever the data are.
    """

    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        dataset = setting("data.dataset")
        if self.dataset == "file" and not self.files:
            raise UserError(f"{dataset}=file needs {setting('data.files')}, the training files; name at least one.")
        if self.dataset != "file":
            for field in ("files", "validation_files", "test_files", "silos", "numeric_columns", "categorical_columns"):
                if getattr(self, field):
                    raise UserError(
                        f"{setting(f'data.{field}')} has no effect with {dataset}={self.dataset}; remove it, or set "
                        f"{dataset}=file."
                    )
        columns, labels = (*self.numeric_columns, *self.categorical_columns), self.label_names
        for fields, names in ((("numeric_columns", "categorical_columns"), columns), (("label_names",), labels)):
            if twice := [name for name in names if names.count(name) > 1]:
                where = " and ".join(setting(f"data.{field}") for field in fields)
                raise UserError(f"{where} must name {twice[0]!r} once only.")
        splits.check_part("validation_fraction", self.validation_fraction)
        splits.check_part("test_fraction", self.test_fraction)
