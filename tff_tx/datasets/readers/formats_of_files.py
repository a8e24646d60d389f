"""Which format files are of, by their names and first lines."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tff_tx.config.registries import FORMATS
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers.conll import begins_with_mark, has_tagged_words
from tff_tx.datasets.readers.dialects import is_separated
from tff_tx.datasets.readers.hugging_face import is_arrow_directory
from tff_tx.datasets.readers.jsons import json_format
from tff_tx.datasets.readers.lines import has_labelled_lines
from tff_tx.datasets.readers.opening import name_without_compression, opened

if TYPE_CHECKING:
    from tff_tx.datasets.spec import DataSpec

_OF_PROGRAMS = {
    (".xlsx", ".xls", ".xlsm", ".ods"): "a spreadsheet",
    (".sav", ".por", ".zsav"): "SPSS",
    (".dta",): "Stata",
    (".sas7bdat", ".xpt"): "SAS",
    (".rds", ".rda", ".rdata"): "R",
    (".pkl", ".pickle"): "Python",
    (".npy", ".npz"): "NumPy",
    (".mat",): "MATLAB",
    (".feather",): "Feather",
    (".orc",): "ORC",
    (".doc", ".docx", ".pdf"): "a text processor",
}

_FILES_TO_TELL = 10
_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar")


@dataclasses.dataclass(frozen=True)
class File:
    """A file that is read."""

    path: str
    # What a text file's client is called: its path below the folder that was named.
    name: str
    in_folder: bool = False
    split: str | None = None


def format_of_table(path: str, spec: DataSpec) -> str | None:
    """The format of another file with records as those of a spec; None if it is that of no such file.

    That is by its name, and by its first lines where names say nothing; but `.txt` is a text unless the spec has such.
    """
    is_like_others = ending(path) in map(ending, spec.files)
    if spec.format and is_like_others:
        return spec.format
    found = format_by_name(path, spec.encoding)
    if found is None and os.path.isfile(path) and (is_like_others or ending(path) != ".txt"):
        found = _format_by_first_lines(path, spec.encoding)
    return found


def ending(path: str) -> str:
    """The ending of a file's name, without that of its compression."""
    return os.path.splitext(name_without_compression(path))[1].lower()


def format_by_name(path: str, encoding: str | None) -> str | None:
    """The format of a file, by its name and, where several are called alike, its first lines; None: unknown."""
    if is_arrow_directory(path):
        return "arrow"
    end = ending(path)
    if end == ".json":
        return json_format(path, encoding)
    is_conll = {".txt": begins_with_mark, ".tsv": has_tagged_words}.get(end)
    if is_conll is not None and is_conll(path, encoding):
        return "conll"
    return next((name for name, fmt in FORMATS.items() if end in fmt.extensions), None)


def _format_by_first_lines(path: str, encoding: str | None) -> str | None:
    """The format of a file whose name says nothing; None: its first lines do not either."""
    if (found := json_format(path, encoding)) is not None:
        return found
    if has_tagged_words(path, encoding):
        return "conll"
    return "csv" if is_separated(path, encoding) else None


def format_of(files: Sequence[File], encoding: str | None) -> str:
    """The one format of files.

    Raises:
      UserError: If it is unknown, of no reader, or they are of several.
    """
    if ending(files[0].path) == ".txt" and has_labelled_lines(files[0].path, encoding):
        raise UserError(
            f"{setting('data.files')}: {files[0].path!r} has lines of a label, a TAB and a text below ### and a "
            f"number, as PubMed RCT: read them with {setting('data.format')}=tsv, "
            f"{setting('data.columns')}=label,text and {setting('data.on_bad_rows')}=skip, which leaves the other "
            "lines out."
        )
    by_name = [(file, format_by_name(file.path, encoding)) for file in files]
    names = {name for _, name in by_name}
    if len(names) > 1 and all(file.in_folder for file, name in by_name if name is None):
        names -= {None}
    if names == {None} and all(file.in_folder for file in files):
        of_heads = {_format_by_first_lines(file.path, encoding) for file in files[:_FILES_TO_TELL]}
        return (of_heads.pop() if len(of_heads) == 1 else None) or "text"
    if names == {None}:
        names = {_format_by_first_lines(file.path, encoding) for file in files}
    if len(names) > 1 and None not in names:
        of_each = {name: file.name for file, name in by_name}
        found = ", ".join(f"{name} ({of_each[name]})" for name in sorted(of_each))
        raise UserError(
            f"{setting('data.files')}: the files are of several formats, {found}: name those of one, such as the table "
            f"that names the others, or choose it with {setting('data.format')}."
        )
    program = next((name for end, name in _OF_PROGRAMS.items() if ending(files[0].path) in end), None)
    if program is not None:
        raise UserError(
            f"{setting('data.files')}: {files[0].path!r} is a file of {program}; save it as CSV (UTF-8) or Parquet, "
            "and name that."
        )
    if ending(files[0].path) in _ARCHIVES:
        raise UserError(
            f"{setting('data.files')}: {files[0].path!r} is an archive; unpack it, and name what was in it."
        )
    if None in names:
        opened(files[0].path).close()  # which may say why
        raise UserError(
            f"{setting('data.format')}: the format of {files[0].path!r} cannot be told from the file names; "
            f"choose one of {', '.join(FORMATS)}."
        )
    return names.pop()
