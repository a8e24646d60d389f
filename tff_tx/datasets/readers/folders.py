"""Folders of pictures and recordings: a file an example, its folder the class, the folder above the client."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from typing import Any, Callable

from tff_tx.datasets.sources import FILES_PER_CHUNK, Format, Rows

PICTURE_ENDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
RECORDING_ENDS = (".wav", ".flac", ".ogg", ".mp3")
_FOLDER_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "testa"),
    "test": ("test", "testb"),
}
_LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}
_MOST_LISTS = 5  # beside the folders of classes of a split
_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def splits_by_list(files: Sequence, is_data: Callable[[Any], bool]) -> dict:
    """The files of a folder by the split that a list beside their folders has them in; empty if there are none.

    Speech Commands has them: `validation_list.txt` and `testing_list.txt` have a path a line, as `yes/a.wav`.
    """
    pool_of: dict[str, str] = {}
    for file in files if len(files) > 1 else ():
        place, name = os.path.split(file.name)
        if file.in_folder and name in _LISTS:
            with open(file.path, encoding="utf-8", errors="replace") as lines:
                pool_of.update((os.path.normpath(os.path.join(place, line.strip())), _LISTS[name]) for line in lines)
    found: dict = {}
    for file in files if pool_of else ():
        found.setdefault(pool_of.get(file.name, "train"), []).append(file)
    return found if len(found) > 1 and any(map(is_data, found.get("train", ()))) else {}


def splits_by_name(files: Sequence, is_data: Callable[[Any], bool]) -> dict:
    """The files of a folder by the split that they are called by: train/..., train-00000.parquet, or wiki.test.tokens.

    That is if there are no other data in it; else all of them train. They may be in one folder of the folder.
    """
    found: dict = {}
    below = len(_common_folder(files, is_data))
    parts = {file.path: _words(file.name[below:]) if file.in_folder else [] for file in files}
    place = _place_of_split(list(parts.values()))
    for file in files:
        found.setdefault(_pool(parts[file.path][place : place + 1]), []).append(file)
    others = found.pop(None, [])
    if not any(map(is_data, files)):
        found, others = _in_class_folders(found, others, below)
    has_others = any(map(is_data, others)) or (others and not any(map(is_data, files)))
    if "train" not in found or len(found) == 1 or has_others:
        return {"train": list(files)}
    return {
        pool: [dataclasses.replace(f, name=f.name[below:].partition(os.sep)[2] or f.name) for f in there]
        for pool, there in found.items()
    }


def _in_class_folders(found: dict, others: Sequence, below: int) -> tuple[dict, Sequence]:
    """Splits of texts, and other files, without lists beside folders of splits that have but folders of classes.

    IMDb's archive has them: imdb.vocab beside train/, and train/urls_pos.txt beside train/pos/.
    """
    depth = lambda file: file.name[below:].count(os.sep)  # noqa: E731
    inner = {pool: [file for file in files if depth(file) > 1] for pool, files in found.items()}
    folders = [{os.path.dirname(file.name) for file in files} for files in inner.values()]
    lists = [file for pool, files in found.items() for file in files if depth(file) <= 1]
    few = len(lists) <= _MOST_LISTS * len(found) and not any(depth(file) == 0 for file in lists)
    if few and folders and all(len(there) > 1 for there in folders) and not any(depth(file) for file in others):
        return inner, []
    return found, others


def _common_folder(files: Sequence, is_data: Callable[[Any], bool]) -> str:
    """The folder that all data of the folder are in, with what separates it; "": the folder itself."""
    folders = [os.path.dirname(f.name) for f in [*filter(is_data, files)] or files]
    return os.path.join(os.path.commonpath(folders), "") if all(folders) else ""


def _words(name: str) -> list[str]:
    """The words of a file's name, or of the folder that it is in."""
    return re.split(r"[-_. ]", name.split(os.sep)[0].lower())


def _pool(words: Sequence[str]) -> str | None:
    return next((pool for pool, names in _FOLDER_SPLITS.items() if {*words} & {*names}), None)


def _place_of_split(names: Sequence[Sequence[str]]) -> int:
    """Which word of files' names says the split: the first, or the first in which those with a split differ."""
    named = [words for words in names if _pool(words)]
    differ = (place for place, words in enumerate(zip(*named)) if len({*words}) > 1)
    place = next(differ, 0)
    return place if all(_pool(words[place : place + 1]) for words in named) else 0


def trained_on_by_name(files: Sequence) -> list[str]:
    """The names of files of a folder that all train, which are called as data that are held out."""
    held_out = {*_FOLDER_SPLITS["validation"], *_FOLDER_SPLITS["test"]}
    return [file.name for file in files if file.in_folder and held_out & {*_words(os.path.basename(file.name))}]


def read_media(path: str, columns: Sequence[str], *, column: str) -> Rows:
    """A file as one row, which has its path in a column, and the `transcript` of a recording that has one."""
    lists = _lists_of_transcripts(path) if column == "audio" else []
    said = _transcripts(tuple((name, os.stat(name).st_mtime_ns) for name in lists))
    name = os.path.splitext(os.path.basename(path))[0]
    yield path, {column: {"path": path}, **({"transcript": said[name]} if name in said else {})}


def _lists_of_transcripts(path: str) -> list[str]:
    """The lists of transcripts beside a recording."""
    folder = os.path.dirname(path) or "."
    return _listed(folder, os.stat(folder).st_mtime_ns)


@functools.lru_cache(64)
def _listed(folder: str, changed: int) -> list[str]:
    return sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".trans.txt"))


@functools.lru_cache(64)
def _transcripts(lists: tuple) -> dict[str, str]:
    """What is said in recordings, by their names without ending: LibriSpeech has a line each.

    `lists` has paths, and when they were changed.
    """
    found = {}
    for path, _ in lists:
        with open(path, encoding="utf-8", errors="replace") as lines:
            found.update(line.strip().split(maxsplit=1) for line in lines if len(line.split()) > 1)
    return found


def _recording_and_lists(path: str, split: str | None) -> list[str]:
    return [path, *_lists_of_transcripts(path)]


def columns_of_name(name: str) -> dict:
    """The class and the client of a file, by its path below the folder that was named: CLIENT/CLASS/FILE."""
    above = os.path.dirname(name).split(os.sep)
    found = {"label": above[-1]} if above[-1] else {}
    return {"client": above[-2], **found} if len(above) > 1 else found


def table_of(folder: str) -> str | None:
    """The table of a folder that has one, with the files' names as its `file_name`."""
    paths = (os.path.join(folder, name) for name in _TABLES)
    return next(filter(os.path.isfile, paths), None)


def _folder(column: str, extensions: Sequence[str], contents: Callable | None = None) -> Format:
    return Format(
        functools.partial(read_media, column=column),
        tuple(extensions),
        chunk_rows=FILES_PER_CHUNK,
        columns_of_name=columns_of_name,
        contents=contents,
    )


IMAGES, RECORDINGS = _folder("image", PICTURE_ENDS), _folder("audio", RECORDING_ENDS, _recording_and_lists)
