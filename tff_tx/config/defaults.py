"""Defaults that depend on other settings."""

from __future__ import annotations

import os
from typing import Any

from tff_tx.config.registries import TASKS
from tff_tx.config.run_config import RunConfig, describe
from tff_tx.core.errors import UserError, setting

EMBEDDED: dict[str, dict[str, Any]] = {
    "stdlib": {
        "task.kind": "causal_lm",
        "model.architecture": "gpt2",
        "model.tokenizer": "bytes",
        "model.config": {
            "n_embd": 128,
            "n_layer": 2,
            "n_head": 4,
            "activation_function": "gelu",
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    },
    "digits": {
        "task.kind": "image_classification",
        "model.architecture": "vit",
        "model.config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "patch_size": 2,
            "initializer_range": 0.1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    },
    "breast_cancer": {
        "task.kind": "tabular_classification",
        "model.architecture": "ft_transformer",
        "model.config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    },
}
"""Task and model of embedded data sets, where the settings name none."""

_STDLIB_STEPS = 16
"""An epoch of the largest modules of stdlib would take as long as the rest of the round."""


def resolve(config: RunConfig) -> RunConfig:
    """The configuration with task, model, weighting and directory filled in where they follow from other settings.

    Raises:
      UserError: If no task or no model follows.
    """
    found = {**_task_and_model(config)}
    config = config.replace(found)
    steps_are_free = config.client.steps is None and not config.is_set("client.epochs")
    if config.data.dataset == "stdlib" and steps_are_free and config.example_privacy.clip_norm is None:
        config = config.replace({"client.steps": _STDLIB_STEPS})
    if config.run.directory is None:
        prefix = "distill_" if config.ensemble.enabled else ""
        config = config.replace({"run.directory": os.path.join("runs", prefix + config.data.dataset)})
    return config


def _task_and_model(config):
    defaults = EMBEDDED.get(config.data.dataset, {})
    kind = config.task.kind or defaults.get("task.kind")
    if kind is None:
        raise UserError(f"{describe(config, 'data.dataset')} needs {setting('task.kind')}, one of {', '.join(TASKS)}.")
    found: dict[str, Any] = {"task.kind": kind}
    if kind != defaults.get("task.kind"):
        defaults = {}
    if config.model.pretrained is None and config.model.architecture is None:
        if "model.architecture" not in defaults:
            raise UserError(
                f"no model is named: set {setting('model.pretrained')} to a checkpoint, or "
                f"{setting('model.architecture')} to the type of a model with random weights."
            )
        found["model.architecture"] = defaults["model.architecture"]
        found["model.config"] = {**defaults["model.config"], **config.model.config}
    if config.model.pretrained is None and config.model.tokenizer is None:
        found["model.tokenizer"] = defaults.get("model.tokenizer")
    return found
