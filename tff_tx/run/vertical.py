"""Vertical federations in simulation: training with a run directory, evaluation and prediction across parties."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import scipy.special
from tqdm.auto import tqdm

from tff_tx import vertical
from tff_tx.config import RunConfig, show
from tff_tx.config.rules_vertical import check_vertical
from tff_tx.config.vertical import VerticalActionConfig, VerticalConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy import accounting, outputs
from tff_tx.run import directory, reporting, vertical_federation
from tff_tx.run.callbacks import MetricsFile
from tff_tx.run.vertical_federation import Federation

_VERSION = 1


def run_directory(config: RunConfig) -> str:
    """The run directory, runs/vertical by default."""
    return config.run.directory or os.path.join("runs", "vertical")


def train(
    config: RunConfig, settings: VerticalConfig, show_progress: bool = True, remote: vertical.Ask | None = None
) -> dict[str, Any]:
    """Trains, or resumes what the run directory holds; returns final figures by split.

    Args:
      config: Data, seed and run directory.
      settings: Of the federation.
      show_progress: Whether to show a bar.
      remote: As of `Federation`.

    Raises:
      UserError: If settings, data or the run directory are wrong.
    """
    check_vertical(settings)
    run_dir = run_directory(config)
    with directory.writing(run_dir):
        trained = os.path.exists(os.path.join(run_dir, directory.CONFIG))
        settings = _checked(run_dir, config, settings)
        federation = Federation(config, settings, run_dir, trained, remote)
        _write_config(run_dir, config, settings)
        first = federation.restore()
        metrics = MetricsFile(os.path.join(run_dir, directory.METRICS), first)
        if first == 0:
            federation.save(0)
        with tqdm(total=settings.epochs, initial=first, unit="epoch", disable=not show_progress) as bar:
            for epoch in range(first + 1, settings.epochs + 1):
                row = vertical.train_epoch(federation.label, federation.ask, settings, epoch)
                found = _evaluate(federation, epoch)
                row |= {f"eval/{name}": value for name, value in found.items()}
                row |= _privacy(settings, federation.label, epoch)
                metrics.append(row, epoch)  # first: a row without a state is removed, and none is made for a state
                federation.save(epoch)
                bar.set_postfix({name: f"{row[name]:.3f}" for name in ("train/loss", "eval/loss")})
                bar.update()
        results = {"test": _evaluate(federation, settings.epochs)}
        files.write_json(os.path.join(run_dir, directory.RESULTS), results)
        reporting.write_section(run_dir, "Vertical federation", _report(config, federation, settings, results["test"]))
    return results


def act(
    config: RunConfig, settings: VerticalConfig, action: VerticalActionConfig, remote: vertical.Ask | None = None
) -> dict[str, float] | str:
    """Trains, evaluates or predicts; figures of held-out rows, or the path of predictions; `remote`: see `train`."""
    if action.action == "predict":
        return predict(config, settings, action.output, remote)
    if action.action == "evaluate":
        return evaluate(config, settings, remote)
    return train(config, settings, remote=remote)["test"]


def evaluate(config: RunConfig, settings: VerticalConfig, remote: vertical.Ask | None = None) -> dict[str, float]:
    """Figures of a trained run on held-out rows, without the parties of `settings.without`."""
    federation, epoch = _trained(config, settings, remote)
    return _evaluate(federation, epoch)


def predict(
    config: RunConfig, settings: VerticalConfig, output: str | None = None, remote: vertical.Ask | None = None
) -> str:
    """Predicts all rows of the parties' tables with a trained run; returns the path of the table that it wrote.

    Its columns are `row`, the row of the table of the party with the labels, from 0, and the probability of each class,
    or the number. In federated transfer each feature party writes a table of its own, of the rows that it alone has.

    Raises:
      UserError: If there is no trained run, or the data or the output are wrong.
    """
    federation, epoch = _trained(config, settings, remote)
    label, classes = federation.label, federation.classes
    logits, rows = vertical.predict(label, federation.ask, settings, "all", epoch)
    path = output or os.path.join(run_directory(config), vertical_federation.PREDICTIONS)
    as_shown = (lambda values: values) if classes is None else functools.partial(scipy.special.softmax, axis=1)
    try:
        vertical_federation.write_predictions(path, federation.places[rows], classes, as_shown(logits))
    except OSError as error:
        raise UserError(f"{setting('vertical_run.output')}={path} cannot be written ({error.strerror}).") from None
    for name, number in federation.further.items():
        found = as_shown(vertical.predict_further(label, federation.ask, name, number, epoch))
        federation.ask("predicted", {name: ({"classes": classes}, [found])})
    return path


def _trained(config, settings, remote):
    run_dir = run_directory(config)
    if not os.path.exists(os.path.join(run_dir, directory.CONFIG)):
        raise UserError(f"{setting('run.directory')}={run_dir} holds no run of a vertical federation: train first.")
    settings = _checked(run_dir, config, settings, ("parties",))
    federation = Federation(config, settings, run_dir, True, remote)
    return federation, federation.restore_trained(run_dir)


def _evaluate(federation, epoch):
    return vertical.evaluate(federation.label, federation.ask, federation.settings, federation.labels, "test", epoch)


def _privacy(settings: VerticalConfig, label: vertical.LabelParty, epoch: int) -> dict[str, float]:
    """Epsilon of labels, of a row that is predicted, and of one that is trained on, where there is a guarantee."""
    rows = label.schedule.rows
    trained = vertical.epsilons(settings, epoch, len(label.others), rows)
    found = {f"privacy/{name}": value for name, value in trained.items()}
    if settings.cut_noise:
        guard, delta = vertical.Guard(settings.cut_clip, settings.cut_noise), accounting.default_delta(rows, "example")
        found["privacy/epsilon_prediction"] = guard.epsilon(1, delta)
    if settings.label_epsilon is not None:
        found["privacy/epsilon_labels"] = settings.label_epsilon
    return found


def _report(config, federation, settings, results):
    lines = [f"Parties: {', '.join(federation.names)}; {federation.label.name} has the labels."]
    changed = [f.name for f in settings.fields() if getattr(settings, f.name) != f.default]
    lines.append("Settings: " + "; ".join(f"`{name}={show(getattr(settings, name))}`" for name in changed))
    lines.append("Not to be passed on unasked: " + "; ".join(outputs.outside(config, outputs.VERTICAL_FILES)) + ".")
    lines += ["| metric | held-out rows |\n|---|---|"]
    table = "\n".join(f"| {name} | {value:.4f} |" for name, value in results.items())
    return "\n\n".join(lines) + "\n" + table


def _write_config(run_dir, config, settings):
    stored = {"version": _VERSION, "vertical": dataclasses.asdict(settings), "run": config.to_json()}
    files.write_json(os.path.join(run_dir, directory.CONFIG), {**stored, "versions": directory.versions()})


def _checked(run_dir: str, config: RunConfig, settings: VerticalConfig, free: Sequence[str] = ()) -> VerticalConfig:
    """The settings, which but for those that may change, and the `free` ones, must be those of a run that is there."""
    path = os.path.join(run_dir, directory.CONFIG)
    if not os.path.exists(path):
        return settings
    try:
        stored = files.parse_json(path)
        before, seed = stored["vertical"], stored["run"]["run"]["seed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not that of a vertical federation ({error}): choose another directory.") from None
    now = files.plain(dataclasses.asdict(settings))
    for field in settings.fields():
        was = before.get(field.name, files.plain(field.default))  # an earlier release may not have had it
        if field.name not in free and not field.option.may_change and was != now[field.name]:
            raise UserError(
                f"{setting(field.path)} was {show(was)} in {setting('run.directory')}={run_dir}, is "
                f"{show(now[field.name])}: a run goes on with the same settings, or choose another directory."
            )
    if seed != config.run.seed:
        raise UserError(f"{setting('run.seed')} was {seed} in {run_dir}: keep it, or choose another directory.")
    return settings
