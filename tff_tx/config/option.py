"""Settings: fields of frozen dataclasses that know their help, their range, and what depends on them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from tff_tx.core.errors import UserError, setting

_NAMES = {dict: "a JSON object", int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


_ADDRESS = re.compile(r".+:([0-9]{1,5})")
_LARGEST = {int: 2**31 - 1, float: 3e38}
"""NumPy, and with it TFF, has numbers from 3.4e38 on as float64, while float32 ends a little above."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Values of a setting that a study tries: from `low` to `high`, both included, on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Option:
    """What is known of a setting besides its name, type and default.

    Attributes:
      help: One sentence.
      flag: Its name on the command line; None: the field's own.
      formerly: Earlier names on the command line, which are rejected with the present one.
      choices: The values it may have: a collection of strings, or a `Registry`.
      least, most: Bounds that are allowed values.
      above, below: Bounds that are not.
      may_be_infinite: Whether infinity is among the values; other numbers are those of float32 or int32, unless `most`
        says otherwise.
      may_change: Whether a resumed run may have another value.
      stated: Whether a privacy statement lists it among what was chosen without being accounted for.
      is_address: Whether it is host:port.
      is_path: Whether it names files, which are stored as absolute paths.
      repeated: Whether the flag is repeated for each item, rather than given once with commas between them.
      search: What a study tries where its space says no more, a `Range` or a tuple of values; None: not searched.
    """

    help: str
    flag: str | None = None
    formerly: tuple[str, ...] = ()
    choices: Iterable[str] | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    may_be_infinite: bool = False
    may_change: bool = False
    stated: bool = False
    is_address: bool = False
    is_path: bool = False
    repeated: bool = False
    search: Range | tuple | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value by itself, as "must be at least 1"; None: nothing."""
        if value is None:
            return None
        if isinstance(value, tuple):
            return next((found for item in value if (found := self.problem(item))), None)
        if self.choices is not None and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if self.is_address and not ((found := _ADDRESS.fullmatch(value)) and int(found[1]) < 2**16):
            return "must be host:port"
        if isinstance(value, float) and math.isnan(value):
            return "must be a number"
        size = None if self.may_be_infinite else _LARGEST.get(type(value))
        if size is not None and value < -size:
            return f"must be at least {-size:g}"
        bounds = (
            (self.least, "at least", lambda v, b: v >= b),
            (self.most if self.most is not None else size, "at most", lambda v, b: v <= b),
            (self.above, "above", lambda v, b: v > b),
            (self.below, "below", lambda v, b: v < b),
        )
        broken = [f"{word} {bound:g}" for bound, word, holds in bounds if bound is not None and not holds(value, bound)]
        return f"must be {' and '.join(broken)}" if broken else None


POSITIVE = {"above": 0.0}
SEED = {"least": 0, "most": 2**63 - 1}
"""Bounds, facts of `option`."""
MOST_MODELS = 1000
"""Models of a server that are in memory side by side."""


def option(default: Any, help: str, **facts: Any) -> Any:
    """A field of a section: its default (a mapping must be empty), a sentence of help, and more facts of `Option`."""
    metadata = {"option": Option(help, **facts)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Section:
    """A group of settings; subclasses are frozen dataclasses whose docstring begins with its title.

    Args:
      name: Of a subclass, its field in `RunConfig`.
      prefix: Of a subclass, what the flags of its settings begin with, unless an option has a flag of its own.

    Raises:
      UserError: At construction, if a setting has a value out of its range.
    """

    section: typing.ClassVar[str]
    prefix: typing.ClassVar[str]

    def __init_subclass__(cls, name: str = "", prefix: str = ""):
        if name:
            cls.section, cls.prefix = name, prefix

    def __post_init__(self):
        for field in self.fields():
            value = field.parse(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if (problem := field.option.problem(value)) is not None:
                raise UserError(f"{setting(field.path)}={show(value)}: {problem}.")

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """Its settings, in order."""
        if "_fields" not in cls.__dict__:
            own = [(f, f.metadata["option"]) for f in dataclasses.fields(cls) if "option" in f.metadata]
            cls._fields = tuple(
                Field(cls.section, f.name, f.type, _default(f), known, known.flag or cls.prefix + f.name)
                for f, known in own
            )
        return cls._fields

    @classmethod
    def title(cls) -> str:
        """What a group of flags is headed by: the first sentence of the docstring."""
        return (cls.__doc__ or "").partition(".")[0]


def _default(field):
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@dataclasses.dataclass(frozen=True)
class Field:
    """A setting.

    Attributes:
      section: Name of its section.
      name: Name within the section.
      annotation: Its type, as it is written: "int", "float | None", "tuple[str, ...]" or "dict[str, Any]".
      default: Its default.
      option: What else is known of it.
      flag: Its name on the command line, without dashes.
    """

    section: str
    name: str
    annotation: str
    default: Any
    option: Option
    flag: str

    @property
    def path(self) -> str:
        """Section and name, as in "client.learning_rate"."""
        return f"{self.section}.{self.name}"

    @property
    def type(self) -> type:
        """bool, int, float, str, tuple or dict; of an optional setting the type that it has if it is set."""
        stem = self.annotation.partition("|")[0].partition("[")[0].strip()
        return {"bool": bool, "int": int, "float": float, "tuple": tuple, "dict": dict}.get(stem, str)

    @property
    def item_type(self) -> type:
        """int, float or str, of a tuple's items."""
        item = self.annotation.partition("[")[2].partition(",")[0]
        return {"int": int, "float": float}.get(item, str)

    def help(self, name_fn: Callable[[str], str]) -> str:
        """Its help, with other settings as `name_fn` names them."""
        return re.sub(r"{(\w+\.\w+)}", lambda found: name_fn(found[1]), self.option.help)

    def parse(self, value: Any) -> Any:
        """A value of the setting's type, from one of Python, JSON or the command line.

        Raises:
          UserError: If it is no such value.
        """
        if value is None and "None" in self.annotation:
            return None
        try:
            return self._convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            wanted = {int: "whole numbers", float: "numbers"}.get(self.item_type, "texts")
            wanted = _NAMES.get(self.type, f"a list of {wanted}")
            at = f" (character {error.pos + 1}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
            raise UserError(f"{setting(self.path)}={show(value)}: must be {wanted}{at}.") from error

    def _convert(self, value):
        if self.type is tuple:
            items = value.split(",") if isinstance(value, str) and value else value
            return tuple(_scalar(self.item_type, item) for item in items)
        if self.type is dict:
            found = json.loads(value or "{}") if isinstance(value, str) else value or {}
            if not isinstance(found, Mapping):
                raise ValueError("no object")
            return dict(found)
        return _scalar(self.type, value)


def _scalar(kind, value):
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("no boolean")
        return value
    if kind is str:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)):
            raise ValueError("no text")
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
        raise ValueError("no number")
    return kind(value)


def show(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return json.dumps(value)
    return str(value)
