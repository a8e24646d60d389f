"""The forms that rules between settings have, each with its sentence."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any, Callable

from tff_tx.config.option import show
from tff_tx.config.run_config import FIELDS, RunConfig, describe
from tff_tx.core.errors import setting
from tff_tx.core.registry import Registry


@dataclasses.dataclass(frozen=True)
class Condition:
    """A setting that has one of some values, or none of them; without values, one that is not its default.

    Attributes:
      path: The setting.
      values: The values; None: whatever is not the default.
      negated: Whether it must have none of them.
    """

    path: str
    values: tuple | None = None
    negated: bool = False

    def holds(self, config: RunConfig) -> bool:
        if self.values is None:
            return config.is_set(self.path) != self.negated
        return (config.get(self.path) in self.values) != self.negated

    def wanted(self) -> str:
        """The condition as an instruction: "algorithm.name=fed_avg or fed_prox"."""
        name = setting(self.path)
        if self.values is None:
            return f"{name} at its default, {show(FIELDS[self.path].default)}" if self.negated else name
        values = " or ".join(map(show, self.values))
        return f"{name} other than {values}" if self.negated else f"{name}={values}"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A setting whose chosen record has a property; looking it up imports it, unless it is the default.

    Attributes:
      path: The setting.
      registry: The registry of its choices.
      attribute: The property, an attribute of the record.
    """

    path: str
    registry: Registry
    attribute: str
    negated: typing.ClassVar[bool] = False

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the records with the property."""
        return tuple(name for name, record in self.registry.items() if getattr(record, self.attribute))

    def holds(self, config: RunConfig) -> bool:
        return config.is_set(self.path) and bool(getattr(self.registry[config.get(self.path)], self.attribute))


def is_set(path: str) -> Condition:
    """The setting is not its default."""
    return Condition(path)


def is_(path: str, *values: Any) -> Condition:
    """The setting has one of the values."""
    return Condition(path, values)


def is_not(path: str, *values: Any) -> Condition:
    """The setting has none of the values."""
    return Condition(path, values, negated=True)


def _named(text: str) -> str:
    """A reason or a remedy, in which {section.field} is the setting."""
    return re.sub(r"\{(\w+\.\w+)\}", lambda match: setting(match[1]), text)


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Two conditions that cannot hold together."""

    first: Condition
    second: Condition
    because: str
    remedy: str = "remove one of them"

    def problem(self, config: RunConfig) -> str | None:
        if not (self.first.holds(config) and self.second.holds(config)):
            return None
        first, second = describe(config, self.first.path), describe(config, self.second.path)
        return f"{first} cannot be combined with {second}: {_named(self.because)}; {_named(self.remedy)}."


@dataclasses.dataclass(frozen=True)
class BelongsTo:
    """A setting that has an effect only where a condition holds."""

    path: str
    owner: Condition

    def problem(self, config: RunConfig) -> str | None:
        if not config.is_set(self.path) or self.owner.holds(config):
            return None
        name = describe(config, self.path)
        if self.owner.values is None:
            return f"{name} has no effect without {setting(self.owner.path)}: set that too, or remove it."
        present = describe(config, self.owner.path)
        return f"{name} has no effect with {present}: remove it, or set {self.owner.wanted()}."


@dataclasses.dataclass(frozen=True)
class Requires:
    """A condition that needs another one."""

    first: Condition
    second: Condition
    because: str

    def problem(self, config: RunConfig) -> str | None:
        if not self.first.holds(config) or self.second.holds(config):
            return None
        found = describe(config, self.second.path)
        return f"{describe(config, self.first.path)} needs {self.second.wanted()} (found {found}): {self.because}."


@dataclasses.dataclass(frozen=True)
class Relation:
    """A relation between numbers; `find` gives the sentence, or None if it holds."""

    paths: tuple[str, ...]
    find: Callable[[RunConfig], str | None]

    def problem(self, config: RunConfig) -> str | None:
        return self.find(config)


@dataclasses.dataclass(frozen=True)
class Needs:
    """A condition that needs a capability of what is chosen from a registry.

    The record that the registry has must have the capability in its `capabilities`; to look it up imports it.
    """

    first: Condition
    chosen: str
    registry: Registry
    capability: str
    because: str

    def problem(self, config: RunConfig) -> str | None:
        name = config.get(self.chosen)
        if name is None or not self.first.holds(config) or self.capability in self.registry[name].capabilities:
            return None
        able = ", ".join(n for n, record in self.registry.items() if self.capability in record.capabilities)
        found = describe(config, self.chosen)
        return (
            f"{describe(config, self.first.path)} cannot be combined with {found}: {self.because}; remove it, or "
            f"choose one of {able or 'none so far'}."
        )


def paths_of(rule: Any) -> Iterator[str]:
    """The settings that a rule is about."""
    for name in ("first", "second", "owner"):
        if hasattr(rule, name):
            yield getattr(rule, name).path
    for name in ("path", "chosen"):
        if hasattr(rule, name):
            yield getattr(rule, name)
    yield from getattr(rule, "paths", ())
