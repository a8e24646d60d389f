"""Files as they are stored: whole or compressed, and text in any encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.sources import BadRow

COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
"""Endings of names of compressed files; whether a file is one, its first bytes say."""

# A text may well begin with BZh, so what follows counts, too.
_OPENERS = {rb"\x1f\x8b": gzip.open, rb"BZh[1-9]1AY&": bz2.open, rb"\xfd7zXZ\x00": lzma.open}
_DAMAGE = (EOFError, OSError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
# What a compressed file may become: text gets 3 to 20 times as large, a bomb a thousand times and more.
_MOST_TIMES, _ALWAYS_BYTES = 200, 2**28

_MOST_GUESSED = 2**20  # bytes that tell an encoding
_BUFFER = 2**16  # in which the first line ends that tells how lines end

_MARK = "\ufeff"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


_DESCRIPTIONS = ("readme", "license", "licence", "citation")


def name_without_compression(path: str) -> str:
    """The path without the ending of a compressed file; the name within an archive if the path has no other ending."""
    stem, end = os.path.splitext(path)
    if end.lower() == ".zip" and not os.path.splitext(stem)[1] and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return (_members(archive) or [stem])[0]
    return stem if end.lower() in COMPRESSED else path


def opened(path: str) -> BinaryIO:
    """The content of a file, decompressed: gzip, bzip2, xz, or the one file in a zip archive.

    Raises:
      UserError: If the file cannot be read or decompressed, here or while it is read, or becomes as large as no text.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        if start.startswith(b"PK\x03\x04"):
            inner = _zipped(path)
        else:
            inner = next((o for magic, o in _OPENERS.items() if re.match(magic, start)), open)(path, "rb")
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    return io.BufferedReader(_Bounded(path, inner), _BUFFER)


def _zipped(path):
    archive = zipfile.ZipFile(path)
    names = _members(archive)
    if len(names) != 1:
        raise UserError(f"{path}: the archive has {len(names)} files, not one; unpack it, and name the files.")
    return archive.open(names[0])


def _members(archive: zipfile.ZipFile) -> list[str]:
    """The files of an archive but those that systems add, and those that say what is in it."""
    names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
    return [name for name in names if not is_description(name)] or names


def is_description(name: str) -> bool:
    """Whether a file is called as one that says what is in a folder."""
    return os.path.splitext(os.path.basename(name))[0].lower() in _DESCRIPTIONS


def _unreadable(path, error):
    return UserError(f"{path} cannot be read ({str(error) or type(error).__name__}); replace the file.")


class _Returns(io.RawIOBase):
    """Reads from another file, whose lines end in a carriage return alone, as of old Macs, with line feeds in place."""

    def __init__(self, inner: BinaryIO):
        self._inner = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        block = self._inner.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Bounded(io.RawIOBase):
    """Reads from another file, up to what a file of its size may become."""

    def __init__(self, path: str, inner: BinaryIO):
        self._path, self._inner, self._read = path, inner, 0
        self._most = max(_ALWAYS_BYTES, _MOST_TIMES * os.path.getsize(path))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            block = self._inner.read(len(buffer))
        except _DAMAGE as error:
            raise _unreadable(self._path, error) from error
        self._read += len(block)
        if self._read > self._most:
            raise UserError(
                f"{self._path}: decompressed, the file has more than {self._most:,} bytes; decompress it yourself if "
                "it is what you expect."
            )
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._inner.close()
        super().close()


def encoding_of(path: str, encoding: str | None = None) -> str:
    """The name of a text file's encoding: by its byte order mark, else the given one, else UTF-8.

    Any bytes are text in an encoding such as Latin-1, so that text that is UTF-8 is not read in it.
    """
    with opened(path) as file:
        start = file.read(_MOST_GUESSED if encoding else 4)
    by_mark = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    return by_mark or ("utf-8" if not encoding or _is_utf_8_instead(start, encoding) else encoding)


def _is_utf_8_instead(start: bytes, encoding: str) -> bool:
    """Whether text in an encoding of a byte a character is UTF-8, by its characters that are not ASCII."""
    try:
        bytes([0xE3]).decode(encoding)  # the first byte of several in others
        return not start.isascii() and bool(codecs.getincrementaldecoder("utf-8")().decode(start))
    except UnicodeDecodeError:
        return False


class TextLines:
    """The lines of a text file with their ends, decoded one by one so that a bad byte has a line number.

    After a line that cannot be decoded the next one can be read, but in encodings of more than a byte a character.

    Args:
      path: The file, compressed or not.
      encoding: That of a file without a byte order mark; None: UTF-8.

    Raises:
      UserError: If the file cannot be read, here or in iteration.
    """

    def __init__(self, path: str, encoding: str | None = None):
        self._path, self._number = path, 0
        self._encoding = encoding_of(path, encoding)
        # Other encodings end lines by other bytes than ASCII does, so that lines cannot be found before decoding.
        self._wide = "\n".encode(self._encoding.removesuffix("-sig")) != b"\n"
        file = opened(path)
        # In wide encodings, ends of lines of any kind are known.
        if not self._wide and b"\r" in (head := file.peek()) and b"\n" not in head:
            file = io.BufferedReader(_Returns(file))
        self._file = io.TextIOWrapper(file, self._encoding, newline="") if self._wide else file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __iter__(self):
        return self

    def __next__(self) -> str:
        self._number += 1
        try:
            line = next(self._file)
            plain = self._encoding if self._number == 1 else self._encoding.removesuffix("-sig")
            return (line if self._wide else line.decode(plain)).removeprefix(_MARK)  # also where files were joined
        except UnicodeDecodeError as error:
            # In wide encodings nobody knows where the next line begins: reading on would fail for ever.
            raise (UserError if self._wide else BadRow)(
                f"{self._path}, line {self._number}: the byte 0x{error.object[error.start]:02x} is not "
                f"{self._encoding.removesuffix('-sig').upper()}; name its {setting('data.encoding')}, such as cp1252 "
                "(Western Europe), cp932 (Japan) or gb18030 (China), or convert the file to UTF-8."
            ) from error

    def numbered(self) -> Iterator[tuple[int, str | BadRow]]:
        """Pairs of a number and the line, or what is wrong with it."""
        for number in itertools.count(1):
            try:
                line = next(self, None)
            except BadRow as error:
                line = error
            if line is None:
                return
            yield number, line
