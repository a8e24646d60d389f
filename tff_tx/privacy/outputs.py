"""What a private run writes: every file of its directory and every column of its figures, and whom they are for."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any, Callable

from tff_tx.config import RunConfig
from tff_tx.config.registries import ALGORITHMS
from tff_tx.config.training_data import holds_out_own_records

PUBLIC = "public"
COVERED = "within the guarantee"
OUTSIDE = "outside of the guarantee"
SECRET = "the server's own"


@dataclasses.dataclass(frozen=True)
class Output:
    """Files or columns with one mark.

    Attributes:
      names: Patterns of their names, as of `fnmatch`.
      mark: `PUBLIC`, `COVERED` (or made of what is), `OUTSIDE`, or `SECRET`, of files that nobody else gets.
      what: For statements, of those that are `OUTSIDE` or `SECRET`.
      holds: Whether they have this mark in a run with these settings.
    """

    names: tuple[str, ...]
    mark: str
    what: str = ""
    holds: Callable[[RunConfig], Any] = lambda config: True


def _exact(config):
    return config.privacy.metrics == "exact"


def _measures_payloads(config):
    return config.compression.upload != "none" or config.compression.download != "none"


COLUMNS = (
    Output(("round_num", "privacy/*", "train/learning_rate"), PUBLIC),
    Output(("choices/*",), OUTSIDE, "which settings did well at clients (`choices/`)"),
    Output(("train/*",), OUTSIDE, "metrics of training (`train/` in `metrics.csv` and TensorBoard)", _exact),
    Output(("train/*",), COVERED, holds=lambda c: c.privacy.metrics == "private"),
    Output(("server/*", "aggregator/*", "distributor/*"), COVERED),
    Output(
        ("eval/*",),
        OUTSIDE,
        "evaluations on held-out records of the training clients (`eval/` and `results.json`)",
        lambda c: holds_out_own_records(c) or c.run.participant_evaluation,
    ),
    Output(("eval/*",), PUBLIC),
    Output(("clients/*",), OUTSIDE, "how many clients were sampled, reported or failed (`clients/`)"),
    Output(("time/*",), OUTSIDE, "how long rounds took (`time/`)"),
    Output(
        ("simulated/*",),
        OUTSIDE,
        "how long simulated rounds took, by the examples of their largest client (`simulated/`)",
        lambda c: c.devices.takes_time or c.devices.round_overhead_seconds,
    ),
    Output(
        ("comm/*",),
        OUTSIDE,
        "bytes that clients sent and received, measured after entropy coding (`comm/`)",
        _measures_payloads,
    ),
    Output(("comm/*",), PUBLIC),
)
"""Of `metrics.csv` and `tensorboard/`; the first that holds counts."""

FILES = (
    Output(("config.json", ".lock"), PUBLIC),
    Output(("model/*", "clusters/*", "adapter/*", "best/*", "export/*"), COVERED),
    # Made of columns.
    Output(("metrics.csv", "tensorboard/*", "wandb/*", "trackers.json"), COVERED),
    Output(("plots/*", "report.*", "results.json"), COVERED),
    Output(
        ("cohorts.jsonl", "feedback.jsonl", "checkpoints/*", "features/*", "attackers.json", "canaries.json"),
        SECRET,
        "`cohorts.jsonl`, `checkpoints/` and `features/`, which are the server's own: who took part, why clients "
        "failed, fingerprints and activations of the data, the state of the noise, and the keys of noise and cohorts",
    ),
    Output(
        ("personal/*", "clients/*"),
        SECRET,
        "`personal/` and `clients/`: weights of single clients, trained on nobody else's data, which are the clients' "
        "own",
        lambda config: config.model.personal is not None or ALGORITHMS[config.algorithm.name].has_own_models,
    ),
    Output(
        ("client_states/*", "residuals/*"),
        SECRET,
        "`client_states/` and `residuals/`: what single clients retain between rounds, made of their data without "
        "noise, which is the clients' own",
        lambda config: ALGORITHMS[config.algorithm.name].client_state or config.compression.has_error_feedback,
    ),
    Output(
        ("audit/*", "contribution/*", "evaluation/*"),
        SECRET,
        "`audit/`, `contribution/` and `evaluation/`, which other programs write later: exact figures of the data that "
        "they read, training data included",
    ),
)
"""Of a run directory, by their paths in it."""

VERTICAL_FILES = (
    FILES[0],
    Output(
        ("parties/*",),
        SECRET,
        "`parties/NAME/`, which is that party's own: its weights, what it found out about its columns, the key of its "
        "noise, its log, and `predictions.csv` of the rows that it alone has",
    ),
    Output(
        ("metrics.csv", "results.json", "report.*", "predictions.csv"),
        OUTSIDE,
        "`metrics.csv`, `results.json`, this report and `predictions.csv`, made of labels and columns as they are, but "
        "for what `privacy/` bounds: those of the party with the labels",
    ),
    Output(("audit/*",), SECRET, "`audit/`, which `programs.audit` writes later: exact figures of all parties' rows"),
)
"""Of the run directory of a vertical federation, whose settings are not in the `RunConfig`."""


def mark_of(name: str, config: RunConfig, outputs: tuple[Output, ...] = COLUMNS) -> str | None:
    """The mark of a column, or of another output; None: it has none."""
    matching = (o for o in outputs if o.holds(config) and any(fnmatch.fnmatchcase(name, p) for p in o.names))
    return next((output.mark for output in matching), None)


def is_withheld(column: str, config: RunConfig) -> bool:
    """Whether a column is not written: with privacy.metrics=withheld, what is not public or within the guarantee."""
    return config.privacy.metrics == "withheld" and mark_of(column, config) not in (PUBLIC, COVERED)


def outside(config: RunConfig, outputs: tuple[Output, ...] = (*COLUMNS, *FILES)) -> list[str]:
    """What a run releases, or has, outside of the guarantee, for its statement."""
    marks = (SECRET,) if config.privacy.metrics == "withheld" else (OUTSIDE, SECRET)
    return [o.what for o in outputs if o.mark in marks and o.holds(config)]
