"""What a run finds out about its training data outside of the training itself, and what privacy makes of it.

A model is released with more than its weights: names of its classes, sizes of its inputs, constants. Whatever of that
comes from the training data is named here, once: it is public, it spends a budget, or a private run does without it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

from tff_tx.config import laws
from tff_tx.config.conditions import Chosen, fill
from tff_tx.config.registries import DATASETS, SPLITS, TASKS
from tff_tx.config.run_config import RunConfig

PUBLIC = "public"
BUDGETED = "within the budget"
REJECTED = "rejected"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is found out.

    Attributes:
      name: What it is.
      mark: `PUBLIC`, `BUDGETED`, or `REJECTED`: private runs that would find it out are rejected.
      because: Why it has that mark, and of what is rejected the remedy; settings as of `fill`.
      is_made: Whether a run with these settings, resolved, finds it out.
    """

    name: str
    mark: str
    because: str
    is_made: Callable[[RunConfig], Any]


def _has(config, attribute):
    return config.task.kind is not None and getattr(TASKS[config.task.kind], attribute)


def _looks_for_labels(config):
    given = config.data.label_names or config.data.label_file or DATASETS[config.data.dataset].label_names
    return _has(config, "needs_label_names") and not given


def _looks_for_categories(config):
    unknown = set(config.data.categorical_columns) - set(config.data.categories)
    return _has(config, "needs_features") and unknown and config.model.pretrained is None


def _adds_up_columns(config):
    return config.task.standardize and config.task.kind and "silos" not in TASKS[config.task.kind].capabilities


WITHIN_CLIENTS = Chosen("data.split", SPLITS, "within_clients")


def holds_out_own_records(config: RunConfig) -> bool:
    """Whether evaluations are on records of training clients."""
    return WITHIN_CLIENTS.holds(config) and bool(config.data.validation_fraction or config.data.test_fraction)


def _chooses_models(config):
    chooses = config.run.keep_best or config.run.patience is not None
    return chooses and (holds_out_own_records(config) or config.run.participant_evaluation)


def _chooses_thresholds(config):
    validated = config.data.validation_fraction and holds_out_own_records(config)
    return validated and config.task.kind and "thresholds" in TASKS[config.task.kind].capabilities


FINDINGS = (
    Finding(
        "names of labels, tags and items",
        REJECTED,
        "the labels of {data.dataset=} are looked for in the training data and released with the model, where no noise "
        "hides one that a single client has: name all labels with {data.label_names} or {data.label_file}",
        _looks_for_labels,
    ),
    Finding(
        "values of categorical columns",
        REJECTED,
        "the values of {data.categorical_columns=} are looked for in the training data and released with the model, "
        "where no noise hides one that a single client has: list the values of every column in {data.categories}; "
        "others then count as unknown",
        _looks_for_categories,
    ),
    Finding(
        "which rows cannot be read",
        REJECTED,
        "their number and the first of them are shown, which no noise hides: correct the data, and set "
        "{data.on_bad_rows} to refuse",
        lambda c: c.data.on_bad_rows == "skip",
    ),
    Finding(
        "means and deviations of numeric columns",
        REJECTED,
        "{task.standardize=} adds up exact sums over the clients' columns, which no noise hides: scale the columns by "
        "public knowledge, and set {task.standardize} to false",
        _adds_up_columns,
    ),
    Finding(
        "frequencies of classes",
        REJECTED,
        "{task.balance_classes=} adds up exact counts over the clients, which no noise hides: give weights of public "
        "knowledge in {task.class_weights}",
        lambda c: c.task.balance_classes,
    ),
    Finding(
        "the model with the best evaluation",
        REJECTED,
        "{data.split=} holds out records of the training clients, and {run.keep_best} and {run.patience} would choose "
        "the released model by them, which is not accounted for: hold out whole clients with {data.split}=client, or "
        "let the run end with its last model",
        _chooses_models,
    ),
    Finding(
        "thresholds of labels",
        REJECTED,
        "{data.split=} holds out records of the training clients, whose counts would choose the thresholds that are "
        "released with the model: hold out whole clients with {data.split}=client, or drop {data.validation_fraction}",
        _chooses_thresholds,
    ),
    Finding(
        "evaluations that are withheld",
        REJECTED,
        "{data.split=} holds out records of the training clients, on which evaluations are exact, and "
        "{privacy.metrics=} is to withhold what is: hold out whole clients with {data.split}=client, or nothing",
        lambda c: c.privacy.metrics == "withheld" and holds_out_own_records(c),
    ),
    Finding(
        "the clip norm",
        BUDGETED,
        "it follows a count with noise",
        lambda c: c.privacy.mechanism == "adaptive",
    ),
    Finding(
        "the number of training clients",
        PUBLIC,
        "delta and the cohorts depend on it",
        lambda c: True,
    ),
    Finding(
        "the number of examples, of all clients and of the smallest",
        PUBLIC,
        "delta depends on it, and neighbouring data sets have the same clients with as many examples each",
        lambda c: c.example_privacy.clip_norm is not None,
    ),
    Finding(
        "the columns and types of the records",
        PUBLIC,
        "records that lack one are rejected",
        lambda c: True,
    ),
    Finding(
        "the size of images",
        PUBLIC,
        "images of another size are rejected, or resized as the checkpoint says",
        lambda c: _has(c, "needs_image_shape"),
    ),
)
"""All that is found out."""


def unhidden(config: RunConfig) -> str | None:
    """Why a private run is rejected: it would find out what no noise hides; None: it is not."""
    for finding in FINDINGS if laws.is_private(config) else ():
        if finding.mark == REJECTED and finding.is_made(config):
            return fill(f"a private run cannot find out {finding.name}: {finding.because}.", config)
    return None


def taken_as_public(config: RunConfig) -> list[str]:
    """What the guarantee of a run takes as public, for its statement."""
    return [f"{f.name} ({f.because})" for f in FINDINGS if f.mark == PUBLIC and f.is_made(config)]
