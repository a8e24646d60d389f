"""Text of others, such as labels and ids of clients, where it is shown: it stays text, and controls nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from tff_tx.core.errors import UserError

# C0 and C1 controls but tab and newline, marks that turn the direction of writing, and halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKUP = re.compile(r"[\\`*\[\]<>&|!#~]")
_MANY_NAMES, _LONG_NAME, _LONG_MESSAGE = 20, 60, 300
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, kept: str = "") -> str:
    """The text with controls, those of terminals among them, as Python's escapes; `kept` stay as they are."""
    return _CONTROL.sub(
        lambda c: c[0] if c[0] in kept else c[0].encode("unicode_escape", "surrogatepass").decode(), text
    )


def show_controls(stream: Any, kept: str) -> None:
    """Has controls in what is written to a stream, as data may contain them, shown as escapes, but for those `kept`.

    A stream then raises a `UserError` if it cannot be written, but for standard error: a run outlives its terminal.
    """
    write = stream.write

    def write_text(text):
        try:
            return write(printable(text, kept))
        except OSError as error:
            if stream is sys.stderr:
                return len(text)
            raise UserError(f"the output cannot be written ({error.strerror}).") from error

    stream.write = write_text


def json_text(value: object) -> str:
    """The value as JSON in Unicode, with controls as its escapes."""
    return _CONTROL.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(value, ensure_ascii=False))


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: the first ones of many, the beginning of long ones."""
    names = [" ".join(name.split()) for name in names]
    names = [name if len(name) <= _LONG_NAME else f"{name[:_LONG_NAME]}..." for name in names]
    return ", ".join(names[:_MANY_NAMES]) + (f", ... ({len(names)} in all)" if len(names) > _MANY_NAMES else "")


def one_line(error: BaseException) -> str:
    """What an error of a library says, in a line."""
    return " ".join(str(error).split())[:_LONG_MESSAGE] or type(error).__name__


def markdown(text: str) -> str:
    """The text as a paragraph of Markdown without markup, links or HTML."""
    return _MARKUP.sub(lambda c: f"&#{ord(c[0])};", printable(" ".join(text.split())))


def cell(value: object) -> object:
    """A value of a table: text is `printable`, and begins with an apostrophe if spreadsheets take it for a formula."""
    if not isinstance(value, str):
        return value
    formula, value = value.startswith(_FORMULA), printable(value)
    if not formula:
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
