"""Search spaces: which settings a study tries, and over which values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tff_tx.config.option import Field, Range, show
from tff_tx.config.rules import without_effect
from tff_tx.config.run_config import FIELDS, RunConfig, describe, resolve
from tff_tx.core.errors import UserError, setting

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    import tomli as tomllib

_BY_FLAG = {field.flag: field for field in FIELDS.values()}
_RATES_AROUND = 30.0
_KEYS = {"low", "high", "log"}


@dataclasses.dataclass(frozen=True)
class Space:
    """What a study tries.

    Attributes:
      domains: By path of a setting, the `Range` or the tuple of values that are tried.
    """

    domains: Mapping[str, Range | tuple]

    def to_json(self) -> dict[str, Any]:
        """As `Space.of` reads it."""
        return {FIELDS[path].flag: _plain(domain) for path, domain in self.domains.items()}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Space:
        """A space as it is written in TOML.

        Args:
          given: By name of a flag: a list of values; {"low", "high", "log"}, of which those that are left out are the
            setting's own; or true, for its own range.

        Raises:
          UserError: If there is no such setting, it cannot be searched, or a value is out of its bounds.
        """
        if not isinstance(given, Mapping):
            raise UserError(
                f"{setting('tune.space')}={given!r}: must be a dictionary, such as {{'client_learning_rate': True}}."
            )
        if not given:
            raise UserError(f"{setting('tune.space')} names no setting: give one, such as client_learning_rate = true.")
        return cls({_field(name).path: _domain(_field(name), value) for name, value in given.items()})

    @classmethod
    def load(cls, path: str) -> Space:
        """Reads a TOML file; see `of`.

        Raises:
          UserError: If it cannot be read, or is no space.
        """
        try:
            with open(path, "rb") as file:
                found = tomllib.load(file)
        except (OSError, ValueError) as error:
            raise UserError(f"{setting('tune.space')}={path} cannot be read ({error}): correct the file.") from None
        return cls.of(found)

    @classmethod
    def default(cls, config: RunConfig) -> Space:
        """A space for a task and what is trained of its model.

        Rates are searched around the default for the trained weights; the server's step and momentum where it has some,
        and the strength of what the algorithm, the adapters or the privacy add.
        """
        rate = config.client_learning_rate
        paths = ["client.batch_size", "server.learning_rate", "server.momentum"]
        paths += ["client.momentum", "client.weight_decay", "algorithm.proximal_strength"]
        if config.model.trainable == "lora":
            paths.append("lora.alpha")
        if config.privacy.enabled:
            paths.append("privacy.clip_norm")
        useless = without_effect(config)
        domains = {"client.learning_rate": Range(rate / _RATES_AROUND, rate * _RATES_AROUND, log=True)}
        domains |= {path: FIELDS[path].option.search for path in paths}
        return cls({path: domain for path, domain in domains.items() if path not in useless})

    def check(self, config: RunConfig) -> None:
        """Checks that each setting has an effect, by a configuration and one of the values of the others.

        Raises:
          UserError: If one has none, so that arms would differ by nothing.
        """
        ends = {path: (d.low, d.high) if isinstance(d, Range) else d for path, d in self.domains.items()}
        others = [{}, *({path: value} for path, values in ends.items() for value in values)]
        found = [without_effect(resolve(config.replace(values))) for values in others]
        for path in self.domains:
            if all(path in useless for useless in found):
                raise UserError(
                    f"{setting('tune.space')}: {FIELDS[path].flag} has no effect with "
                    f"{describe(config, found[0][path])}: remove it."
                )


def _field(name):
    field = _BY_FLAG.get(name)
    if field is None:
        raise UserError(f"{setting('tune.space')}: there is no setting {name!r}; see the list of settings.")
    if field.option.search is None:
        known = ", ".join(sorted(f.flag for f in FIELDS.values() if f.option.search is not None))
        raise UserError(f"{setting('tune.space')}: {name} cannot be searched; settings that can are {known}.")
    return field


def _domain(field: Field, value: Any) -> Range | tuple:
    own = field.option.search
    if value is True:
        return own
    if isinstance(value, (list, tuple)) and value:
        found = tuple(_value(field, item) for item in value)
        if len(set(found)) < len(found):
            raise UserError(f"{setting('tune.space')}: {field.flag} has a value twice: give each once.")
        return found
    has_range = isinstance(own, Range)
    is_range = has_range and isinstance(value, Mapping) and set(value) <= _KEYS
    if not is_range or not isinstance(value.get("log", True), bool):
        form = "true, a list of values, or {low = ..., high = ..., log = true}"
        form = form if has_range else "true or a list of values"
        raise UserError(f"{setting('tune.space')}: {field.flag} = {value!r}: must be {form}.")
    low, high = (_value(field, value.get(key, getattr(own, key))) for key in ("low", "high"))
    log = value.get("log", own.log and low > 0)
    if low >= high or not math.isfinite(high) or (log and low <= 0):
        above = " and low above 0, as the scale is logarithmic" if log else ""
        raise UserError(
            f"{setting('tune.space')}: {field.flag} from {low:g} to {high:g}: low must be below high{above}."
        )
    return Range(low, high, log)


def _value(field, value):
    """A value of the setting, in its bounds."""
    try:
        found = field.parse(value)
    except UserError:
        found = None
    problem = "is no value of it" if found is None else field.option.problem(found)
    if problem:
        raise UserError(f"{setting('tune.space')}: {field.flag} = {show(value)}: {problem}.")
    return found


def _plain(domain):
    return dataclasses.asdict(domain) if isinstance(domain, Range) else list(domain)
