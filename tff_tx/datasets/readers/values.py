"""Values of files as those of records."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
from collections.abc import Sequence

import numpy as np

# As files write that a number is missing.
_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none", "?", ".", "-", "#n/a", "#null!")

# A comma before decimals, but not one that may as well group thousands, as in 1,234.
_DECIMAL_COMMA = re.compile(r"\s*[+-]?(?![1-9]\d{0,2},\d{3}\s*$)\d+,\d+\s*")
# Currencies and percent signs.
_UNIT = re.compile(r"([+-]?)\s*[$€£¥]?\s*([+-]?\d.*?)\s*[$€£¥%]?")
# A thousands separator and a decimal point, which are certain where both are there, or groups are several.
_GROUPED = [
    re.compile(rf"[+-]?\d{{1,3}}(?:(?:{group}\d{{3}})+{point}\d+|(?:{group}\d{{3}}){{2,}})")
    for group, point in ((r"\.", ","), (",", r"\."), ("['’]", r"\."), (r"\s", "[.,]"))
]
# A point before three digits, which may be decimals or a group.
_POINT = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_THREE = re.compile(r"\.\d{3}(?!\d)")
_MOST_DIGITS = 40


_WHOLE = re.compile(r"-?\d+\.0")


def is_missing(value) -> bool:
    """Whether there is no value."""
    return value is None or (isinstance(value, float) and np.isnan(value))


def is_empty(value) -> bool:
    """Whether there is no value, or an empty text."""
    return is_missing(value) or isinstance(value, str) and value == ""


def is_scalar(value) -> bool:
    """Whether a value is there, and a single one: a text, a number or a time."""
    return not is_missing(value) and not isinstance(value, (list, dict, bytes, np.ndarray))


def is_number(value) -> bool:
    """Whether a value is a finite number, or a text that spells one."""
    try:
        return not isinstance(value, bool) and as_number(value) is not None
    except (TypeError, ValueError, OverflowError):
        return False


def is_infinite(value) -> bool:
    """Whether a value is an infinite number, as a division by zero leaves it, or a text that spells one."""
    try:
        return not isinstance(value, bool) and bool(np.isinf(float(value)))
    except (TypeError, ValueError, OverflowError):
        return False


def is_list(value) -> bool:
    """Whether a value is a list, or a text that spells one out."""
    return isinstance(parsed(value), list)


def parsed(value):
    """A list or object that is written as text, as tables have it; any other value as it is.

    It is written as JSON, in Python's way, or as NumPy shows an array of texts or numbers: ['a' 'b'].
    """
    if not isinstance(value, str) or (value[:1], value[-1:]) not in (("[", "]"), ("{", "}")):
        return value
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(re.sub(r"""(?<=['"])\s+(?=['"])""", ", ", value))
    words = value[1:-1].split()
    return words if words and all(word.rstrip(".").lstrip("-").isdigit() for word in words) else value


def as_text(value) -> str:
    """A single value as text."""
    if not is_scalar(value):
        raise TypeError
    return _unicode(str(value))


def _unicode(text: str) -> str:
    # JSON can spell half of a surrogate pair, which nothing that is written as UTF-8 can hold.
    if not text.isascii():
        text.encode()
    return text


def as_words(value) -> list:
    """A list of texts, not empty."""
    value = parsed(value)
    if not isinstance(value, (list, np.ndarray)) or len(value) == 0:
        raise TypeError
    return [_unicode(str(word)) for word in value]


def as_label(value) -> str:
    """A single value, not empty, as text without blanks around it."""
    label = _single(value).strip()
    if not label:
        raise TypeError
    return label


def as_category(value) -> str:
    """A single value as text without blanks around it; that there is none is a category as well, the empty text.

    Whole numbers are spelled without a point: pandas writes those of a column as 2.0 where another value is missing.
    """
    text = "" if is_missing(value) or not str(value).strip() else as_label(value)
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


def _single(value) -> str:
    if isinstance(value, np.ndarray):
        # Scalars come out of some files as arrays of one element.
        value = value.item()
    if isinstance(value, (list, dict, bytes)) or value == "":
        raise TypeError
    return _unicode(str(value))


def as_client(value) -> str:
    """The id of a client: a single value without blanks around it or NUL, at which SQLite and C end a text."""
    client = as_label(value)
    if "\0" in client:
        raise ValueError
    return client


def as_labels(value) -> list:
    """A list of single values, which may be empty, as texts."""
    value = parsed(value)
    if not isinstance(value, (list, np.ndarray)):
        raise TypeError
    return [as_label(one) for one in value]


def as_flag(value) -> bool:
    """0 or 1, or false or true."""
    flags = {"0": False, "1": True, "false": False, "true": True}
    if (flag := flags.get(str(value).strip().lower().removesuffix(".0"))) is None:
        raise ValueError
    return flag


def as_number(value) -> float:
    """A finite number; a text may have a decimal comma, groups of thousands, a currency or a percent sign."""
    try:
        number = float(value)
    except ValueError:
        number = float(_plain(value))
    if not np.isfinite(number):
        raise ValueError
    return number


def _plain(text: str) -> str:
    """The text of a number as Python writes it."""
    text = _without_unit(text)
    if any(grouped.fullmatch(text) for grouped in _GROUPED):
        *whole, last = re.split(r"[.,'’\s]", text)
        certain = len({*re.findall(r"[.,'’\s]", text)}) > 1
        return "".join(whole) + (f".{last}" if certain else last)
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text


def _without_unit(text: str) -> str:
    unit = _UNIT.fullmatch(text.strip()) if len(text) < _MOST_DIGITS else None
    return unit[1] + unit[2] if unit else text


def has_grouping_points(value) -> bool:
    """Whether a number has a decimal comma, or several groups with points between."""
    if not isinstance(value, str) or not ("," in value or value.count(".") > 1):
        return False
    text = _without_unit(value)
    return any(pattern.fullmatch(text) for pattern in (_GROUPED[0], _DECIMAL_COMMA))


def ambiguous(column: Sequence) -> int | None:
    """The place of a number of a column, such as 1.234, whose point groups thousands if other numbers' commas tell."""
    if not any(map(has_grouping_points, column)):
        return None
    return next((n for n, value in enumerate(column) if has_point_of_either_kind(value)), None)


def has_point_of_either_kind(value) -> bool:
    """Whether a text is a number, such as 1.234, whose point may be a decimal one or group thousands."""
    if not isinstance(value, str) or not _THREE.search(value):  # most are none, at a third of the cost
        return False
    return _POINT.fullmatch(_without_unit(value)) is not None


def has_comma_of_either_kind(value) -> bool:
    """Whether a text is a number, such as 1,234, whose comma may group thousands or be a decimal one."""
    return isinstance(value, str) and "," in value and _COMMA.fullmatch(_without_unit(value)) is not None


def is_missing_number(value) -> bool:
    """Whether there is no value, or a text by which files say that a number is missing."""
    return is_missing(value) or isinstance(value, str) and value.strip().lower() in _NO_NUMBER


def as_number_or_nan(value) -> float:
    """A finite number, or NaN where there is none."""
    if is_missing_number(value):
        return np.nan
    return as_number(value)


def as_place(value) -> int:
    """A whole number from 0 on."""
    place = int(value)
    if place < 0 or place != float(value):
        raise ValueError
    return place


def as_squad_answers(value) -> list:
    """Of {text: [...], answer_start: [...]}, as Hugging Face keeps SQuAD, or of SQuAD's [{text, answer_start}, ...]."""
    value = parsed(value)
    if isinstance(value, dict):
        if len(value.get("text", ())) != len(value.get("answer_start", (None,))):
            raise TypeError
        return [(as_text(text), as_place(start)) for text, start in zip(value["text"], value["answer_start"])]
    if not isinstance(value, (list, np.ndarray)) or not all(isinstance(answer, dict) for answer in value):
        raise TypeError
    return [(as_text(answer.get("text")), as_place(answer.get("answer_start"))) for answer in value]


def as_image(value) -> np.ndarray:
    """Pixels: an array as it is, or those of an encoded picture."""
    if isinstance(value, dict):
        # How Hugging Face's datasets keep images.
        value = value.get("bytes") or _file(value.get("path"))
    if isinstance(value, bytes):
        return _decoded(value)
    pixels = np.asarray(value)
    if not np.issubdtype(pixels.dtype, np.number) or pixels.ndim < 1:
        raise TypeError
    return pixels


def _file(path):
    if not isinstance(path, str) or not os.path.isfile(path):
        raise ValueError("no file")
    with open(path, "rb") as file:
        return file.read()


def _decoded(encoded: bytes) -> np.ndarray:
    """The pixels of a picture as it is looked at: 8 bits of grey, RGB or RGBA, or a float from 0 to 1 for more bits."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(encoded)) as stored:
            image = ImageOps.exif_transpose(stored)
            if image.mode.startswith("I"):
                return np.asarray(image, np.float32) / np.float32(2**16 - 1)
            if image.mode not in ("L", "RGB", "RGBA"):
                transparent = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
                grey = image.mode in ("1", "F")
                image = image.convert("RGBA" if transparent else "L" if grey else "RGB")
            return np.asarray(image)
    except (Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(str(error)) from error


def as_file(value):
    """The bytes of a file, its path, or {bytes, path}, as it is.

    It is decoded where it is encoded, one by one: decoded, a chunk of recordings may have gigabytes.
    """
    if not isinstance(value, (str, bytes, dict)):
        raise TypeError
    return value


KIND = {
    as_file: "file",
    as_text: "text",
    as_words: "list of words",
    as_label: "single value",
    as_category: "single value",
    as_client: "id of a client: a single value without NUL",
    as_labels: "list of labels",
    as_flag: "0 or 1",
    as_image: "image",
    as_number: "finite number",
    as_number_or_nan: "finite number",
    as_place: "number of a character, from 0",
    as_squad_answers: "list of answers with text and answer_start",
}
