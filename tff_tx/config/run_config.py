"""`RunConfig`: everything a run is asked for, and its one form on disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tff_tx.config import tools
from tff_tx.config.aggregation import AggregationConfig, CompressionConfig
from tff_tx.config.algorithm import (
    PRETRAINED_RATE,
    RATE,
    AlgorithmConfig,
    ClientConfig,
    EnsembleConfig,
    ServerConfig,
)
from tff_tx.config.clients import AttackConfig, CanariesConfig, CohortConfig, DevicesConfig
from tff_tx.config.option import Field, Section, show
from tff_tx.config.privacy import ExamplePrivacyConfig, LocalPrivacyConfig, PrivacyConfig
from tff_tx.config.registries import DATASETS, TASKS
from tff_tx.config.run import EngineConfig, RunSettings
from tff_tx.config.task import DataConfig, LoraConfig, ModelConfig, TaskConfig
from tff_tx.core.errors import UserError, setting

VERSION = 2


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run, as data; its attributes are sections of settings.

    What the settings forbid one another is checked by `rules.check`.
    """

    task: TaskConfig = TaskConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    client: ClientConfig = ClientConfig()
    server: ServerConfig = ServerConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    aggregation: AggregationConfig = AggregationConfig()
    compression: CompressionConfig = CompressionConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    local_privacy: LocalPrivacyConfig = LocalPrivacyConfig()
    example_privacy: ExamplePrivacyConfig = ExamplePrivacyConfig()
    cohort: CohortConfig = CohortConfig()
    devices: DevicesConfig = DevicesConfig()
    attack: AttackConfig = AttackConfig()
    canaries: CanariesConfig = CanariesConfig()
    engine: EngineConfig = EngineConfig()
    run: RunSettings = RunSettings()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunConfig:
        """The defaults, but for some settings.

        Args:
          values: By path, such as "client.learning_rate".

        Raises:
          UserError: If there is no such setting, or a value is out of its range.
        """
        return cls().replace(values)

    def get(self, path: str) -> Any:
        """The value of a setting, by its path."""
        section, _, name = path.partition(".")
        return getattr(getattr(self, section), name)

    def replace(self, values: Mapping[str, Any]) -> RunConfig:
        """The same with other values of some settings; see `of`. Files are a data set, without its being named."""
        by_section: dict[str, dict[str, Any]] = {}
        if values.get("data.files") and "data.dataset" not in values and not self.is_set("data.dataset"):
            values = {**values, "data.dataset": "file"}
        for path, value in values.items():
            if path not in FIELDS:
                raise UserError(f"there is no setting {setting(path)}; see the list of settings in the documentation.")
            by_section.setdefault(FIELDS[path].section, {})[FIELDS[path].name] = value
        changed = {name: dataclasses.replace(getattr(self, name), **some) for name, some in by_section.items()}
        return dataclasses.replace(self, **changed)

    def is_set(self, path: str) -> bool:
        """Whether a setting has another value than its default."""
        return self.get(path) != FIELDS[path].default

    @property
    def client_learning_rate(self) -> float:
        """The clients' rate: as it is set, else by what is trained."""
        if self.client.learning_rate is not None:
            return self.client.learning_rate
        tunes = self.model.pretrained is not None and self.model.trainable.startswith(("all", "layers:"))
        return PRETRAINED_RATE if tunes and self.client.optimizer != "sgd" else RATE

    def changed(self) -> dict[str, Any]:
        """What differs from the defaults, by path."""
        return {path: self.get(path) for path in FIELDS if self.is_set(path)}

    def with_absolute_paths(self) -> RunConfig:
        """The same files wherever on this machine they are opened from; those of silos are elsewhere."""
        found = {}
        for path, field in FIELDS.items():
            value = self.get(path)
            if not field.option.is_path or not value or (path == "data.files" and self.data.silos):
                continue
            found[path] = _absolute(value) if isinstance(value, str) else tuple(map(_absolute, value))
        return self.replace(found)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: plain values by section and setting."""
        return {"version": VERSION, **{section.section: _plain(getattr(self, section.section)) for section in SECTIONS}}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RunConfig:
        """The configuration that `to_json` gave, or a `config.json` of version 1, which stores flags.

        Raises:
          UserError: If it is of a later version, or nothing of the kind.
        """
        if not isinstance(stored, Mapping):
            raise UserError("the stored configuration is not an object: restore config.json, or start a new run.")
        version = stored.get("version", 1)
        if version == 1:
            return cls.of(_joined_as_before(_of_flags(stored)))
        if version != VERSION:
            raise UserError(
                f"the stored configuration is of version {version}, and this is version {VERSION}: use the tff_tx that "
                "wrote it."
            )
        sections = {section.section: stored.get(section.section) for section in SECTIONS}
        if wrong := [name for name, values in sections.items() if not isinstance(values, Mapping)]:
            raise UserError(f"the stored configuration has no section {wrong[0]}: restore config.json.")
        values = {f"{section}.{name}": value for section, own in sections.items() for name, value in own.items()}
        return cls.of(_joined_as_before(values))


SECTIONS: tuple[type[Section], ...] = tuple(type(f.default) for f in dataclasses.fields(RunConfig))
FIELDS: dict[str, Field] = {field.path: field for section in SECTIONS for field in section.fields()}
"""All settings by path."""
_FIELDS_OF_TOOLS = {field.path: field for section in tools.SECTIONS for field in section.fields()}


def flag_of(path: str) -> str:
    """The name of a setting on the command line, with dashes; for `UserError.describe`."""
    field = FIELDS.get(path) or _FIELDS_OF_TOOLS.get(path)
    return f"--{field.flag}" if field else path


def describe(config: RunConfig, path: str) -> str:
    """A setting and its value, for the message of a `UserError`."""
    return f"{setting(path)}={show(config.get(path))}"


_DERIVED_NOW = {"algorithm.weighted": True, "client.epochs": 1, "algorithm.distillation_weight": 0.0}
"""Defaults of version 1 that are derived from other settings now."""


def _plain(section):
    values = {field.name: getattr(section, field.name) for field in section.fields()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _joined_as_before(values):
    """Stored settings, with a blank between several texts where there was no choice yet."""
    columns = values.get("data.text_column")
    is_old = "data.text_join" not in values and isinstance(columns, (list, tuple)) and len(columns) > 1
    return {**values, "data.text_join": "blank"} if is_old else values


def _of_flags(stored):
    """Settings of version 1, by path: flags had other names, and absolute paths of files stood beside them."""
    if "vertical" in stored:
        raise UserError("the run is a vertical federation's: use programs.vertical, or programs.audit for such runs.")
    flags = stored.get("flags")
    if not isinstance(flags, Mapping):
        raise UserError("the stored configuration has neither a version nor flags: restore config.json.")
    found = {}
    for path, field in FIELDS.items():
        for name in (field.flag, *field.option.formerly):
            if name in flags and flags[name] is not None:
                found[path] = flags[name]
    for path, default in _DERIVED_NOW.items():
        if found.get(path) == default:
            del found[path]
    if "group" in flags and "attack" not in flags:
        found["ensemble.enabled"] = True
    data = stored.get("task", {}).get("data", {})
    for name in ("files", "validation_files", "test_files"):
        if data.get(name):
            found[f"data.{name}"] = data[name]
    return found


def resolve(config: RunConfig) -> RunConfig:
    """The configuration with task, model, local steps and directory filled in where they follow from other settings.

    An embedded data set has a task and a model of its own, which apply where the settings name none.

    Raises:
      UserError: If no task or no model follows.
    """
    defaults = DATASETS[config.data.dataset].defaults
    config = config.replace(_task_and_model(config, defaults))
    steps_are_free = config.client.steps is None and config.client.epochs is None
    if steps_are_free and config.example_privacy.clip_norm is None:
        config = config.replace({"client.steps": defaults.get("local_steps")})
    if config.run.directory is None:
        prefix = "distill_" if config.ensemble.enabled else ""
        config = config.replace({"run.directory": os.path.join("runs", prefix + config.data.dataset)})
    return config


def _task_and_model(config, defaults):
    kind = config.task.kind or defaults.get("task")
    if kind is None:
        raise UserError(f"{describe(config, 'data.dataset')} needs {setting('task.kind')}, one of {', '.join(TASKS)}.")
    found: dict[str, Any] = {"task.kind": kind}
    if kind != defaults.get("task"):
        defaults = {}
    if config.model.pretrained is None and config.model.architecture is None:
        if "architecture" in defaults:
            found["model.architecture"] = defaults["architecture"]
            found["model.config"] = {**defaults["model_config"], **config.model.config}
        elif not config.ensemble.groups:  # which may name models of their own
            suggested = TASKS[kind].architecture
            random = f"={suggested} for" if suggested else " to the type of"
            raise UserError(
                f"no model is named: set {setting('model.pretrained')} to a checkpoint, or "
                f"{setting('model.architecture')}{random} a model with random weights."
            )
    if config.model.pretrained is None and config.model.tokenizer is None:
        found["model.tokenizer"] = defaults.get("tokenizer")
    return found


def _absolute(path: str) -> str:
    # hf://owner/name is no path of this machine.
    return path if "://" in path else os.path.abspath(path)


def coordinated(config: RunConfig) -> RunConfig:
    """The configuration of a federation's coordinator: participants, `data.silos`, in place of training data.

    Raises:
      UserError: If it has training data.
    """
    if config.data.files and config.data.files != _AT_PARTICIPANTS:
        raise UserError(f"{setting('data.files')}: the participants have the training data; remove it.")
    given = {"engine.name": "federation", "data.dataset": "file", "data.files": _AT_PARTICIPANTS}
    return config.replace(given)


_AT_PARTICIPANTS = ("{silo}",)
