"""What is wrong with settings or a command line, found without starting a program."""

from __future__ import annotations

import pytest

from tff_tx.config import FIELDS, RunConfig, check, flag_of, resolve
from tff_tx.core.errors import UserError
from tff_tx.run import assemble

_BY_FLAG = {field.flag: field for field in FIELDS.values()}


def config_of(*line: str) -> RunConfig:
    """The configuration of a command line; a flag that is there twice is a list."""
    values: dict = {}
    for argument in line:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not equals:
            name, value = (name, True) if name in _BY_FLAG else (name.removeprefix("no"), False)
        field = _BY_FLAG[name]
        if field.option.repeated:
            value = (*values.get(field.path, ()), value)
        elif field.type is bool and isinstance(value, str):
            value = value == "true"
        values[field.path] = value
    return RunConfig.of(values)


def problem(values):
    """The sentence with which settings, by path, are rejected."""
    with pytest.raises(UserError) as error:
        check(resolve(RunConfig.of(values)))
    return str(error.value)


def complaint(*line: str, loads: bool = False) -> str:
    """The sentence that a command line ends with, in which settings are flags.

    Args:
      line: Of programs.train.
      loads: Whether data and model are loaded, and the run is put together.
    """
    with pytest.raises(UserError) as caught:
        _prepare(line, loads)
    sentence = caught.value.describe(flag_of)
    assert len(sentence.splitlines()) == 1
    return sentence


def _prepare(line, loads):
    config = resolve(config_of(*line))
    check(config)
    if loads:
        assemble.assemble(config, assemble.load_task(config, progress=False))
