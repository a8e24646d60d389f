"""A plan: what a coordinator asks participants to take part in, the configuration without what is its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tff_tx.config import FIELDS, RunConfig, check, resolve, show
from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import secure
from tff_tx.run.assemble.tasks import data_spec

_VERSION = 1
_SECRET = ("run.directory", "run.profile", "data.cache_dir", "privacy.noise_seed", "privacy.sampling_seed")
_OWN = [
    path
    for path, field in FIELDS.items()
    if path in _SECRET or field.option.is_path or (field.section == "engine" and path != "engine.name")
]
"""Settings of the coordinator's machine, and the secrets of its noise and its cohorts: no part of a plan."""


def plan_of(config: RunConfig) -> dict[str, Any]:
    """The plan of a resolved configuration, as JSON has it."""
    config = config.replace({"data.label_names": tuple(data_spec(config).known_labels or ())})
    config = config.replace({path: FIELDS[path].default for path in _OWN})
    return {"version": _VERSION, "config": json.loads(json.dumps(config.to_json()))}


def digest(plan: Mapping[str, Any]) -> str:
    """SHA-256 of a plan, in hexadecimal digits: the name of the run to both ends."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def config_of(plan: Mapping[str, Any], own: Mapping[str, Any]) -> RunConfig:
    """The configuration of a plan at a participant, checked.

    Args:
      plan: As it came.
      own: Settings that are the participant's, by path.

    Raises:
      UserError: If it is no plan, or settings do not fit together.
    """
    if plan.get("version") != _VERSION or not isinstance(plan.get("config"), Mapping):
        raise UserError("the coordinator's plan is of another version of this program.")
    config = RunConfig.from_json(plan["config"]).replace({path: FIELDS[path].default for path in _OWN})
    config = resolve(config.replace({"engine.name": "federation", **own}))
    check(config)
    return config


def tells_labels(config: RunConfig) -> bool:
    """Whether participants are asked for the names of the labels in their data."""
    return TASKS[config.task.kind].needs_label_names and not config.data.label_names


def _describe_round(config):
    if config.cohort.is_buffered:
        return f"of the next {config.cohort.buffer_size} updates to arrive; whoever is free trains the newest model"
    return f"with {config.cohort.clients_per_round} clients"


def describe(config: RunConfig) -> str:
    """A plan in words, for a participant's operator."""
    privacy, model = config.privacy, config.model
    what = "sums of updates and of metrics, and why a client failed"
    sums = (
        "in the clear; the coordinator sees the sum over this participant's clients of a round, which of one client is "
        "its update"
    )
    sizes = "how many examples each has and their mean length, "
    if config.aggregation.secure != "none":
        hidden = {"masks": "masked updates and metrics, and shares of their masks"}
        what = hidden.get(config.aggregation.secure, "encrypted updates and metrics")
        sums, sizes = secure.describe_sizes(config), ""
    what += ", sums of metrics over held-out rows" if config.run.participant_evaluation else ""
    lines = [
        f"participants: {', '.join(config.data.silos)}",
        f"task: {config.task.kind}, of {config.run.rounds} rounds of {config.algorithm.name}, each "
        f"{_describe_round(config)}",
        f"model: {model.pretrained or model.architecture}, trained: {model.trainable}",
        f"client-level differential privacy: {privacy.mechanism if privacy.enabled else 'none'}"
        f"{', a share of whose noise this participant adds' * privacy.is_distributed}",
        f"sums: {sums}",
        f"what leaves: the clients' names, {sizes}{what}{'; names of the labels' if tells_labels(config) else ''}",
        "settings other than the defaults:",
    ]
    return "\n".join([*lines, *(f"  {path} = {show(value)}" for path, value in sorted(config.changed().items()))])
