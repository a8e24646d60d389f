"""Values of settings that are valid, and not their defaults."""

from tff_tx.config import FIELDS, RunConfig
from tff_tx.config.conditions import Chosen

_TEXTS = {"aggregation.clip_norm": "2.0", "aggregation.zeroing_norm": "2.0", "run.monitor": "accuracy"}


def other_value(path):
    """A valid value of a setting that is not its default."""
    field = FIELDS[path]
    if path in _TEXTS:
        return _TEXTS[path]
    facts = field.option
    if facts.choices is not None and field.type is not tuple:
        return next(choice for choice in facts.choices if choice != field.default)
    if field.type is bool:
        return not field.default
    if field.type in (int, float):
        found = (1, 2, 3, 0.5, 0.25, 0)
        return next(v for v in map(field.type, found) if v != field.default and facts.problem(v) is None)
    if field.type is tuple:
        return (3, 7) if field.item_type is int else ("one", "two")
    return {"key": 1} if field.type is dict else "other"


def make_hold(config: RunConfig, condition, holds=True):
    """The configuration with one setting changed so that a condition holds, or does not."""
    path = condition.path
    if isinstance(condition, Chosen):
        return config.replace(
            {path: next(name for name in condition.registry if condition.holds(config.replace({path: name})))}
        )
    wants_default = (condition.values is None) == (condition.negated == holds)
    if condition.values is None:
        return config.replace({path: FIELDS[path].default if wants_default else other_value(path)})
    if holds != condition.negated:
        return config.replace({path: condition.values[0]})
    choices = FIELDS[path].option.choices
    others = [
        FIELDS[path].default,
        other_value(path),
        *(choices or ()),
        *([not condition.values[0]] if FIELDS[path].type is bool else ()),
        *([2] if FIELDS[path].type is int else []),
    ]
    return config.replace({path: next(v for v in others if v not in condition.values)})
