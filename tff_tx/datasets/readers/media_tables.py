"""Tables with names of picture or recording files."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable

from tff_tx.datasets.readers.columns import words_of_name
from tff_tx.datasets.readers.folders import PICTURE_ENDS, RECORDING_ENDS
from tff_tx.datasets.sources import BadRow, Rows

_ENDS = {"image": PICTURE_ENDS, "audio": RECORDING_ENDS}
# What columns are called that have names of files without their endings.
_NAMES = ("id", "image", "img", "picture", "photo", "file", "filename", "name", "audio", "recording", "clip", "code")
_ROWS_TO_TELL, _MOST_FOLDERS = 3, 1000


def with_media(rows: Rows, path: str) -> Rows:
    """Replaces file names in the rows of a table by the pictures or recordings.

    Paths are those from the table, or from the one folder beside it that has them, as Common Voice has its `clips`, or
    beside its folder, as ESC-50 has `audio` beside `meta`, or from a folder in these, as UrbanSound8K has folds. Names
    may lack their endings, as Kaggle's ids do, if each of the first rows has a file with one.
    """
    places, rows = _Places(os.path.dirname(path)), iter(rows)
    head = list(itertools.islice(rows, _ROWS_TO_TELL))
    first = [row for _, row in head if isinstance(row, dict)]
    endings = _endings(first, places)
    named = ((name, value) for row in first for name, value in row.items() if isinstance(value, (str, int)))
    places.settle(filter(_column_of, (f"{value}{endings.get(name, '')}" for name, value in named)))
    for where, row in itertools.chain(head, rows):
        found = {}
        for name, value in row.items() if isinstance(row, dict) else ():
            of_file = f"{value}{endings[name]}" if name in endings else value
            if not isinstance(of_file, str) or (column := _column_of(of_file)) is None:
                continue
            files = places.find(of_file)
            if len(files) > 1:
                row = BadRow(
                    f"{where}: {value!r} may be {files[0]} or {files[1]}: write its path from the table, or put "
                    "the table into the folder of its files."
                )
                break
            if files:
                # A name without its ending may be that of a client as well.
                found |= {key: {"path": files[0]} for key in (column, *([] if name in endings else [name]))}
        yield where, {**row, **found} if found and isinstance(row, dict) else row


class _Places:
    """Folders in which a table's files are looked up, the nearest first.

    Args:
      folder: Of the table.
    """

    def __init__(self, folder: str):
        self._folder, self._is_near = folder, False

    def settle(self, names: Iterable[str]) -> None:
        """Looks no further than the table's folder if that has one of these files: others may be of another table."""
        self._is_near = any(map(self.has, names))

    def find(self, name: str) -> list[str]:
        """The different files of a name, which Windows may have written with backslashes."""
        return self._find(name) or ("\\" in name and self._find(name.replace("\\", "/"))) or []

    def _find(self, name):
        found = _files(name, [self._folder]) or _files(name, [*self._within, *self._beside])
        return found or _different(self._below.get(name, ()))

    def has(self, name: str) -> bool:
        """Whether a file of a name is in the table's folder, or in a folder in that."""
        return bool(_files(name, [self._folder, *self._within]))

    @functools.cached_property
    def _within(self) -> list[str]:
        return _folders(self._folder or ".")

    @functools.cached_property
    def _beside(self) -> list[str]:
        return [] if self._is_near else _folders(os.path.join(self._folder, ".."))

    @functools.cached_property
    def _below(self) -> dict[str, list[str]]:
        """Pictures and recordings two folders down, by name; none if there are more than `_MOST_FOLDERS` folders."""
        found: dict[str, list[str]] = {}
        several = (_folders(place) for place in (*self._within, *self._beside))
        folders = list(itertools.islice(itertools.chain.from_iterable(several), _MOST_FOLDERS + 1))
        for folder in folders if len(folders) <= _MOST_FOLDERS else ():
            for entry in _entries(folder):
                if _column_of(entry.name):
                    found.setdefault(entry.name, []).append(entry.path)
        return found


def _files(name: str, folders: Iterable[str]) -> list[str]:
    return _different(file for folder in folders if os.path.isfile(file := os.path.join(folder, name)))


def _different(files: Iterable[str]) -> list[str]:
    return list({os.path.realpath(file): file for file in files}.values())


def _folders(place: str) -> list[str]:
    return [entry.path for entry in _entries(place) if os.path.isdir(entry.path)]


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:  # it may not be read
        return []


def _endings(rows: list[dict], places: _Places) -> dict[str, str]:
    """File name extensions that the values of columns lack, by column."""
    found = {}
    for name, value in rows[0].items() if rows else ():
        last = words_of_name(str(name))[-1:]
        if {*last} & {*_NAMES} and isinstance(value, (str, int)) and _column_of(str(value)) is None:
            ends = (case for end in (*PICTURE_ENDS, *RECORDING_ENDS) for case in (end, end.upper()))
            there = (end for end in ends if all(places.has(f"{row.get(name)}{end}") for row in rows))
            if end := next(there, None):
                found[name] = end
    return found


def _column_of(name: str) -> str | None:
    return next((column for column, known in _ENDS.items() if name[-5:].lower().endswith(known)), None)
