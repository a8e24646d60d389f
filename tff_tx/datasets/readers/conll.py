"""Sentences in CoNLL's formats, a line a word."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers.opening import TextLines
from tff_tx.datasets.sources import BadRow, Format, Rows

_DOCUMENT = "-DOCSTART-"
_MOST_BEFORE = 64  # bytes in which it ends, also of UTF-16
_UNIVERSAL = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_TAG, _HEAD_LINES = re.compile(r"O|[BIESLU](-\S+)?"), 500
# Lines of CoNLL-U that are no words: tokens of several words, and words that are not in the text.
_NO_WORD = re.compile(r"\d+[-.]\d+$")


def read_conll(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """CoNLL: a line a word, a blank line ends a sentence; token first and tag last, unless columns are given.

    Lines that begin with # and have other fields than words are comments. Names of the fields in the first line are
    columns too. A row has the values of each column in a list.
    """
    words = _words(_head(path, encoding))
    header, width = _header(words), len(columns) or len(words[0] if words else ("token", "tag"))
    for number, lines in _sentences(path, columns, encoding, header, width):
        where = f"{path}, line {number}"
        bad = next((line for line in lines if isinstance(line, BadRow)), None)
        yield where, bad or _sentence(path, number, lines, columns, header)


def read_conllu(path: str, columns: Sequence[str], encoding: str | None = None) -> Rows:
    """CoNLL-U (Universal Dependencies): the tokens are the forms, the tags the universal parts of speech."""
    names = tuple(columns) or _UNIVERSAL
    for where, row in read_conll(path, names, encoding):
        if isinstance(row, dict):
            words = [number for number, name in enumerate(row[names[0]]) if not _NO_WORD.match(name)]
            row = {name: [values[number] for number in words] for name, values in row.items()}
            if not columns:
                row |= {"tokens": row["form"], "tags": row["upos"]}
        yield where, row


def begins_with_mark(path: str, encoding: str | None = None) -> bool:
    """Whether a file begins as CoNLL-2003's do, which have no ending of their own."""
    try:
        with open(path, "rb", buffering=0) as file:  # to decode takes ten times as long, and there may be thousands
            start = file.read(_MOST_BEFORE)
        if path.endswith(".txt") and _DOCUMENT.encode() not in start.replace(b"\0", b""):
            return False
        with TextLines(path, encoding) as file:
            return next(file, "").split()[:1] == [_DOCUMENT]
    except (OSError, UserError):
        return False


def has_tagged_words(path: str, encoding: str | None = None) -> bool:
    """Whether the first lines of a file are words with tags of entities, with blank lines between sentences."""
    try:
        head = _head(path, encoding)
    except (OSError, UserError):
        return False
    words = _words(head)
    header = _header(words)
    alike = len({*map(len, words)}) == 1 and len(words[0]) > 1
    tagged = all(_TAG.fullmatch(fields[-1]) for fields in words if fields != header)
    sentences = sum(are_words for are_words, _ in itertools.groupby(map(bool, head)))
    return alike and tagged and sentences > 1


def _head(path, encoding) -> list[list[str]]:
    """The fields of the first lines, but for comments and what cannot be decoded."""
    with TextLines(path, encoding) as file:
        lines = [line for _, line in itertools.islice(file.numbered(), _HEAD_LINES) if isinstance(line, str)]
    return [_fields(line) for line in lines if not line.startswith("#")]


def _words(head):
    return [fields for fields in head if fields and fields[0] != _DOCUMENT]


def _header(words) -> list[str]:
    """The names of the fields, if the first line has them: it alone does not end with a tag of entities."""
    first, *others = words or [[]]
    others = [fields for fields in others if fields != first]  # as where files were joined
    names = {len(first)} == {len(set(first)), *map(len, others)} and len(first) > 1 and all(first)
    tagged = bool(others) and all(_TAG.fullmatch(fields[-1]) for fields in others)
    return first if names and tagged and not _TAG.fullmatch(first[-1]) else []


def _sentences(
    path: str, columns: Sequence[str], encoding: str | None, header: Sequence[str], width: int
) -> Iterator[tuple]:
    """(number of the first line, fields of each line or what is wrong with it) of each sentence."""
    sentence, start = [], 0
    with TextLines(path, encoding) as file:
        for number, line in itertools.chain(file.numbered(), [(0, "")]):
            fields = line if isinstance(line, BadRow) else _fields(line)
            if isinstance(fields, list) and (not fields or fields[0] == _DOCUMENT or fields == header):
                if sentence:
                    yield start, sentence
                sentence = []
                continue
            if isinstance(fields, list) and fields[0].startswith("#") and len(fields) != width:
                continue
            start = start if sentence else number
            sentence.append(_checked(f"{path}, line {number}", fields, width, columns))


def _fields(line: str) -> list[str]:
    if not line.strip():
        return []
    return line.rstrip("\r\n").split("\t") if "\t" in line else line.split()


def _checked(where: str, fields, width: int, columns: Sequence[str]):
    if isinstance(fields, BadRow) or (len(fields) >= 2 and len(fields) == width and fields[0] and fields[-1]):
        return fields
    wanted = ", ".join(columns) if columns else "token and tag"
    return BadRow(
        f"{where}: {' '.join(fields)[:60]!r} is no {wanted}, separated by TABs or blanks like the lines before; "
        "correct the line."
    )


def _sentence(path, start, lines, columns, header) -> dict:
    by_field = [list(values) for values in zip(*lines)]
    if columns:
        return dict(zip(columns, by_field))
    numbers = [list(map(str, range(first, first + len(lines)))) for first in (0, 1)]
    number = next((place for place, values in enumerate(by_field[:-1]) if values in numbers), -1)
    before = by_field[: max(number, 0)]  # CoNLL-2012 has the document and its part there
    if number >= 0 and len(by_field) > 2 and len(lines) > 1 and all(len({*values}) == 1 for values in before):
        raise UserError(
            f"{path}, line {start}: field {number + 1} of {len(by_field)} numbers the words: name all fields with "
            f"{setting('data.columns')}, such as {','.join(_names_around(by_field, number))}."
        )
    return {**dict(zip(header, by_field)), "tokens": by_field[0], "tags": by_field[-1]}


def _names_around(by_field: Sequence[Sequence[str]], number: int) -> list[str]:
    """Names of fields of which one numbers the words: the words follow, and the tags are the first that look so."""
    tags = (place for place in range(number + 2, len(by_field)) if all(map(_TAG.fullmatch, by_field[place])))
    known = {number: "number", number + 1: "tokens", next(tags, len(by_field) - 1): "tags"}
    return [known.get(place, f"field{place + 1}") for place in range(len(by_field))]


CONLL = Format(read_conll, (".conll", ".bio", ".iob"), settings=("encoding",))
CONLLU = Format(read_conllu, (".conllu",), settings=("encoding",))
