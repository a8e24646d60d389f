"""The forms that rules between settings have, each with its sentence."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, Callable

from tff_tx.config.option import show
from tff_tx.config.run_config import FIELDS, RunConfig, describe
from tff_tx.core.errors import setting
from tff_tx.core.registry import Registry

_SETTING = re.compile(r"\{(\w+\.\w+)(=|:value|)\}")


def fill(text: str, config: RunConfig) -> str:
    """A text with settings: {section.field} is the name, {section.field=} that and value, {section.field:value} it."""
    forms = {"": setting, "=": lambda path: describe(config, path), ":value": lambda path: show(config.get(path))}
    return _SETTING.sub(lambda match: forms[match[2]](match[1]), text)


@dataclasses.dataclass(frozen=True)
class _OfSetting:
    path: str

    def describe(self, config: RunConfig) -> str:
        """What the setting is now: "algorithm.name=fed_sgd"."""
        return describe(config, self.path)

    def wanted(self) -> str:
        """The condition as an instruction: "algorithm.name=fed_avg or fed_prox"."""
        return setting(self.path)


@dataclasses.dataclass(frozen=True)
class Condition(_OfSetting):
    """A setting that has one of some values, or none of them; without values, one that is not its default.

    Attributes:
      path: The setting.
      values: The values; None: whatever is not the default.
      negated: Whether it must have none of them.
    """

    values: tuple | None = None
    negated: bool = False

    def holds(self, config: RunConfig) -> bool:
        if self.values is None:
            return config.is_set(self.path) != self.negated
        return (config.get(self.path) in self.values) != self.negated

    def wanted(self) -> str:
        name = setting(self.path)
        if self.values is None:
            return f"{name} at its default, {show(FIELDS[self.path].default)}" if self.negated else name
        values = " or ".join(map(show, self.values))
        return f"{name} other than {values}" if self.negated else f"{name}={values}"


@dataclasses.dataclass(frozen=True)
class Chosen(_OfSetting):
    """A setting whose chosen record has a property that the default's has not; looking it up imports the record.

    Attributes:
      path: The setting.
      registry: The registry of its choices.
      attribute: The property, an attribute of the record.
      item: If not None, the attribute must contain this, rather than be true.
      negated: Whether the record must lack it.
    """

    registry: Registry
    attribute: str
    item: str | None = None
    negated: bool = False

    def _has(self, record):
        found = getattr(record, self.attribute)
        return (bool(found) if self.item is None else self.item in found) != self.negated

    def holds(self, config: RunConfig) -> bool:
        return config.is_set(self.path) and self._has(self.registry[config.get(self.path)])

    def wanted(self) -> str:
        return (
            f"{setting(self.path)}={' or '.join(name for name, record in self.registry.items() if self._has(record))}"
        )


@dataclasses.dataclass(frozen=True)
class Derived(_OfSetting):
    """What follows from several settings.

    Attributes:
      path: The setting that it is named by.
      test: Whether it is so.
      text_fn: To the text that names it in messages, as of `fill`; None: setting and value.
    """

    test: Callable[[RunConfig], Any]
    text_fn: Callable[[RunConfig], str] | None = None

    def holds(self, config: RunConfig) -> bool:
        return bool(self.test(config))

    def describe(self, config: RunConfig) -> str:
        return fill(self.text_fn(config), config) if self.text_fn else super().describe(config)


def is_set(path: str) -> Condition:
    """The setting is not its default."""
    return Condition(path)


def is_(path: str, *values: Any) -> Condition:
    """The setting has one of the values."""
    return Condition(path, values)


def is_not(path: str, *values: Any) -> Condition:
    """The setting has none of the values."""
    return Condition(path, values, negated=True)


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
        first, second = self.first.describe(config), self.second.describe(config)
        return f"{first} cannot be combined with {second}: {fill(f'{self.because}; {self.remedy}', config)}."


@dataclasses.dataclass(frozen=True)
class BelongsTo:
    """A setting that has an effect only where a condition holds."""

    path: str
    owner: Condition

    def problem(self, config: RunConfig) -> str | None:
        if not config.is_set(self.path) or self.owner.holds(config):
            return None
        name, wanted = describe(config, self.path), self.owner.wanted()
        if wanted == setting(self.owner.path):
            return f"{name} has no effect without {wanted}: set that too, or remove it."
        return f"{name} has no effect with {describe(config, self.owner.path)}: remove it, or set {wanted}."


@dataclasses.dataclass(frozen=True)
class Requires:
    """A condition that needs another one."""

    first: Condition
    second: Condition
    because: str

    def problem(self, config: RunConfig) -> str | None:
        if not self.first.holds(config) or self.second.holds(config):
            return None
        first, found = self.first.describe(config), self.second.describe(config)
        return f"{first} needs {self.second.wanted()} (found {found}): {self.because}."


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
        return (
            f"{self.first.describe(config)} cannot be combined with {describe(config, self.chosen)}: {self.because}; "
            f"remove it, or choose one of {able or 'none so far'}."
        )


@dataclasses.dataclass(frozen=True)
class Law:
    """Any other relation, by what breaks it and the sentence for that, as of `fill`."""

    broken: Callable[[RunConfig], Any]
    sentence: str

    def problem(self, config: RunConfig) -> str | None:
        return fill(self.sentence, config) if self.broken(config) else None


@dataclasses.dataclass(frozen=True)
class Relation:
    """A relation whose sentence has more in it than settings; `find` gives it, or None if the relation holds."""

    paths: tuple[str, ...]
    find: Callable[[RunConfig], str | None]

    def problem(self, config: RunConfig) -> str | None:
        return self.find(config)


def paths_of(rule: Any) -> Iterator[str]:
    """The settings that a rule is about."""
    yield from (getattr(rule, name).path for name in ("first", "second", "owner") if hasattr(rule, name))
    yield from (getattr(rule, name) for name in ("path", "chosen") if hasattr(rule, name))
    yield from getattr(rule, "paths", ())
    yield from (path for path, _ in _SETTING.findall(getattr(rule, "sentence", "")))
