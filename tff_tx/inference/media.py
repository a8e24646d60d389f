"""Predictions for pictures and recordings: single files, folders of them, and tables with such."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import Any

from tff_tx import datasets
from tff_tx.core.errors import UserError, setting
from tff_tx.inference.predictor import Predictor, require_inputs


class MediaPredictor(Predictor):
    """Predicts from files, whose paths are among the predictions as `file`.

    Attributes:
      media: The format of such files, a name in `tff_tx.datasets.FORMATS`.
    """

    media: str

    def read(self, *, texts=(), question=None, files=()):
        """Paths of files, those of folders in order, and what tables have."""
        require_inputs(texts, files)
        if texts or question is not None:
            raise UserError(
                f"the model takes {self.media}: set {setting('predict.data')} to files, folders or tables of such, "
                f"instead of {setting('predict.text')}."
            )
        return super().read(files=files)

    def _read_file(self, path: str) -> Iterable:
        if not os.path.isdir(path):
            return super()._read_file(path) if self._is_table(path) else [path]
        below = datasets.files_below(path, "predict.data")
        # Beside them there may be others, such as a README.
        if found := [one for one in below if datasets.format_of_table(one, self.data) == self.media]:
            return found
        if tables := [one for one in below if self._is_table(one)]:
            return list(itertools.chain.from_iterable(map(super()._read_file, tables)))
        raise UserError(f"{setting('predict.data')}={path}: the folder has no {self.media}: check the path.")

    def _is_table(self, path):
        name = datasets.format_of_table(path, self.data)
        return name is not None and datasets.FORMATS[name].columns_of_name is None


def file_name(value: Any) -> dict[str, str]:
    """The path of an input, for its prediction, if it is one."""
    return {"file": value} if isinstance(value, str) else {}
