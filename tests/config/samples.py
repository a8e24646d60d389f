"""Values of settings that are valid, and not their defaults."""

from tff_tx.config import FIELDS, RunConfig

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
        found = (1, 2, 3, 0.5, 0.25, 0, 1000)
        return next(v for v in map(field.type, found) if v != field.default and facts.problem(v) is None)
    if field.type is tuple and facts.choices is not None:
        return tuple(facts.choices)
    if field.type is tuple:
        return (3, 7) if field.item_type is int else ("one", "two")
    if facts.is_address:
        return "other:1"
    return {"key": 1} if field.type is dict else "other"


def make_hold(config: RunConfig, condition, holds=True):
    """The configuration with one setting changed so that a condition holds, or does not."""
    path = condition.path
    others = {int: (2,), bool: (False, True)}.get(FIELDS[path].type, ())
    values = (*(getattr(condition, "values", None) or ()), FIELDS[path].default, other_value(path), *others)
    changed = (config.replace({path: value}) for value in (*values, *(FIELDS[path].option.choices or ())))
    return next(c for c in changed if condition.holds(c) == holds)
