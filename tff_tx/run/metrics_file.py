"""`metrics.csv`: a row a round, appended; survives being killed at any time."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from typing import Callable

import numpy as np

_KEY = "round_num"


class MetricsFile:
    """A CSV file of rounds, of which each write costs as much as its row.

    `tff.program.CSVFileReleaseManager` reads and writes the whole file at each release, in either of its modes, so that
    the thousandth round takes longer than the first.
    """

    def __init__(self, path: str, last: int):
        """Opens the file, which need not exist.

        Args:
          path: Where.
          last: The last round to keep: later ones are removed, and so is a line that a kill tore off.
        """
        self._path = path
        self._columns, rows, torn = _read(path)
        kept = [row for row in rows if int(row[_KEY]) <= last]
        if not self._columns or torn or len(kept) < len(rows):
            self._columns = self._columns or [_KEY]
            self._rewrite(kept)

    def append(self, row: Mapping[str, float], round_num: int) -> None:
        """Adds a round; columns that are new become the file's last, empty in earlier rounds.

        Args:
          row: Numbers by column.
          round_num: The round.
        """
        row = {_KEY: round_num, **{column: np.asarray(number).item() for column, number in row.items()}}
        new = [column for column in row if column not in self._columns]
        if new:
            self._columns += new
            self._rewrite([*_read(self._path)[1], row])
            return
        with open(self._path, "a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def clear(self, prefix: str, is_void: Callable[[int], bool]) -> None:
        """Empties the columns of a prefix in some rounds.

        Args:
          prefix: Of the columns' names.
          is_void: From a round to whether it is one of them.
        """
        _, rows, _ = _read(self._path)
        columns = [name for name in self._columns if name.startswith(prefix)]
        void = [row for row in rows if is_void(int(row[_KEY])) and any(row[name] for name in columns)]
        for row in void:
            row.update(dict.fromkeys(columns, ""))
        if void:
            self._rewrite(rows)

    def _rewrite(self, rows):
        with open(f"{self._path}_temp", "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(f"{self._path}_temp", self._path)


def _read(path):
    """Columns, rows, and whether an unfinished line comes after them, which is none of them."""
    if not os.path.exists(path):
        return [], [], False
    with open(path, newline="") as file:
        whole, newline, rest = file.read().rpartition("\n")
    reader = csv.DictReader(io.StringIO(whole + newline, newline=""))
    return list(reader.fieldnames or []), list(reader), rest != ""
