"""Defaults that depend on other settings."""

from __future__ import annotations

import os
from typing import Any

from tff_tx.config.registries import DATASETS, TASKS
from tff_tx.config.run_config import RunConfig, describe
from tff_tx.core.errors import UserError, setting


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
            raise UserError(
                f"no model is named: set {setting('model.pretrained')} to a checkpoint, or "
                f"{setting('model.architecture')} to the type of a model with random weights."
            )
    if config.model.pretrained is None and config.model.tokenizer is None:
        found["model.tokenizer"] = defaults.get("tokenizer")
    return found
