"""The forms that rules between settings have, each with its sentence."""

from __future__ import annotations

import dataclasses
import itertools
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

    def _has(self, name):
        found = getattr(self.registry[name], self.attribute)
        return (bool(found) if self.item is None else self.item in found) != self.negated

    def holds(self, config: RunConfig) -> bool:
        return config.is_set(self.path) and self._has(config.get(self.path))

    def wanted(self) -> str:
        return f"{setting(self.path)}={' or '.join(filter(self._has, self.registry))}"

    def others(self) -> list[str]:
        """The choices of which it does not hold."""
        return list(itertools.filterfalse(self._has, self.registry))


@dataclasses.dataclass(frozen=True)
class Derived(_OfSetting):
    """What follows from several settings.

    Attributes:
      path: The setting that it is named by.
      test: Whether it is so.
      text_fn: To the text that names it in messages, as of `fill`; None: setting and value.
      instruction: The condition as an instruction, as of `fill`; "": the setting.
    """

    test: Callable[[RunConfig], Any]
    text_fn: Callable[[RunConfig], str] | None = None
    instruction: str = ""

    def holds(self, config: RunConfig) -> bool:
        return bool(self.test(config))

    def wanted(self) -> str:
        return _SETTING.sub(lambda match: setting(match[1]), self.instruction) or super().wanted()

    def describe(self, config: RunConfig) -> str:
        return fill(self.text_fn(config), config) if self.text_fn else super().describe(config)


def condition(text: str) -> Condition:
    """A condition from a text: "section.field" (it is set), "section.field=one|other" or "section.field!=one|other"."""
    path, operator, values = re.fullmatch(r"([\w.]+)(!?=)?(.*)", text).groups()
    if operator is None:
        return Condition(path)
    constants = {"None": None, "True": True, "False": False}
    parsed = (constants[v] if v in constants else FIELDS[path].parse(v) for v in values.split("|"))
    return Condition(path, tuple(parsed), negated=operator == "!=")


class _Rule:
    """A rule about conditions, which may be given as texts of `condition`."""

    def __post_init__(self):
        for name in ("first", "second", "owner"):
            if isinstance(found := getattr(self, name, None), str):
                object.__setattr__(self, name, condition(found))


@dataclasses.dataclass(frozen=True)
class Conflict(_Rule):
    """Two conditions that cannot hold together; without a remedy, the second must name choices that do."""

    first: Condition | str
    second: Condition | str
    because: str
    remedy: str | None = "remove one of them"

    def problem(self, config: RunConfig) -> str | None:
        if not (self.first.holds(config) and self.second.holds(config)):
            return None
        first, second = self.first.describe(config), self.second.describe(config)
        remedy = self.remedy or f"remove it, or choose one of {', '.join(self.second.others()) or 'none so far'}"
        return f"{first} cannot be combined with {second}: {fill(f'{self.because}; {remedy}', config)}."


def exclude(first, because, *paths, remedy=Conflict.remedy) -> list[Conflict]:
    """Settings that cannot be combined with a condition, all for one reason."""
    return [Conflict(first, path, because, remedy) for path in paths]


@dataclasses.dataclass(frozen=True)
class BelongsTo(_Rule):
    """A setting that has an effect only where a condition holds."""

    path: str
    owner: Condition | str

    def problem(self, config: RunConfig) -> str | None:
        if not config.is_set(self.path) or self.owner.holds(config):
            return None
        name, wanted = describe(config, self.path), self.owner.wanted()
        if wanted == setting(self.owner.path):
            return f"{name} has no effect without {wanted}: set that too, or remove it."
        return f"{name} has no effect with {describe(config, self.owner.path)}: remove it, or set {wanted}."


def belong(owner, *paths) -> list[BelongsTo]:
    """Settings that have an effect only where a condition holds."""
    return [BelongsTo(path, owner) for path in paths]


def section(name, *names, but=()) -> list[str]:
    """Settings of a section; without names, all but some."""
    if not names:
        return [path for path, field in FIELDS.items() if field.section == name and field.name not in but]
    return [f"{name}.{n}" for n in names]


@dataclasses.dataclass(frozen=True)
class Requires(_Rule):
    """A condition that needs another one."""

    first: Condition | str
    second: Condition | str
    because: str

    def problem(self, config: RunConfig) -> str | None:
        if not self.first.holds(config) or self.second.holds(config):
            return None
        first, found = self.first.describe(config), self.second.describe(config)
        return f"{first} needs {self.second.wanted()} (found {found}): {self.because}."


def needs(first: Condition | str, path: str, registry: Registry, capability: str, because: str) -> Conflict:
    """A condition that needs a capability of what is chosen from a registry."""
    return Conflict(first, Chosen(path, registry, "capabilities", capability, negated=True), because, None)


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
    yield from ([rule.path] if hasattr(rule, "path") else getattr(rule, "paths", ()))
    yield from (path for path, _ in _SETTING.findall(getattr(rule, "sentence", "")))
