"""Vertical federations in simulation: training with a run directory, evaluation and prediction across parties."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
import tensorflow as tf
from tqdm.auto import tqdm

from tff_tx import vertical
from tff_tx.config import RunConfig, show
from tff_tx.config.rules_vertical import check_vertical
from tff_tx.config.vertical import PartyConfig, VerticalConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy import accounting
from tff_tx.run import directory, reporting
from tff_tx.run.assemble import vertical as assemble
from tff_tx.run.callbacks import MetricsFile
from tff_tx.run.checkpoints import Checkpoints

FACTS = "facts.json"
_VERSION = 1


class StoredParty:
    """A party whose weights, and what it found out about its columns, are in a directory of its own.

    Args:
      party: A `FeatureParty` or a `LabelParty`.
      facts: What it found out.
      path: The directory.
    """

    def __init__(self, party: Any, facts: Mapping[str, Any], path: str):
        self._party, self._half = party, getattr(party, "half", party)
        self._facts, self._path, self._is_ready = dict(facts), path, False
        self._checkpoints = Checkpoints(os.path.join(path, directory.CHECKPOINTS))

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Arrays of all rows, which stay with a feature party."""
        return self._party.inputs

    def answer(self, phase: str, said: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> tuple[dict, list]:
        """Answers as the party does, and saves or restores its state."""
        if phase == "save":
            files.write_json(os.path.join(self._path, FACTS), self._facts)
            self._checkpoints.save(self._half.state, int(said["epoch"]))
            return {}, []
        if phase == "restore":
            state, epoch = self._checkpoints.load_latest(self._half.state, int(said["at_most"]))
            self._half.state, self._is_ready = tf.nest.map_structure(tf.constant, state), True
            return {"epoch": epoch}, []
        if phase != "open" and not self._is_ready:
            raise UserError("it was started anew in the middle of a run: give the label party's command again.")
        return self._party.answer(phase, said, arrays)


class Federation:
    """The parties of a configuration: all in this process, or the one with the labels alone.

    Attributes:
      settings: Of the federation.
      label: The label party.
      names: Of all parties.
      classes: Names of the classes; None: labels are numbers.
      labels: True labels of all rows.
      ask: Sends feature parties a message each, see `tff_tx.vertical.training.Ask`.

    Args:
      config: Data and seed.
      settings: Of the federation, checked.
      run_dir: The run directory.
      trained: Whether the run is there, with what parties found out about their columns.
      remote: Reaches the feature parties where they are; None: they are in this process.

    Raises:
      UserError: If rows, order or version of parties differ, or data cannot be read.
    """

    def __init__(
        self,
        config: RunConfig,
        settings: VerticalConfig,
        run_dir: str,
        trained: bool = False,
        remote: vertical.Ask | None = None,
    ):
        self.settings, self._parties = settings, check_vertical(settings)
        name = label_party_of(self._parties)
        others = [other for other in self._parties if other != name]
        self._here = {}
        for other in others if remote is None else ():
            self._here[other] = load_stored(config, settings, other, run_dir, trained)
        self.ask = remote or self._ask_here
        own = load(config, settings, name, run_dir, trained)
        found = vertical.open_federation(others, self.ask, own.schedule.rows, own.alignment)
        tokens = assemble.tokens_of(self._parties, own, found)
        self.label = assemble.label_party(config, settings, own, tokens)
        self.names, self.classes, self.labels = list(self._parties), own.facts.get("classes"), own.data.labels
        self._own = StoredParty(self.label, own.facts, party_directory(run_dir, name))

    def _ask_here(self, phase, asked):
        found = {}
        for name, (said, arrays) in asked.items():
            try:
                found[name] = self._here[name].answer(phase, said, arrays)
            except UserError as error:
                raise UserError(f"{setting('vertical.parties')}: {name}: {error}") from None
        return found

    def features(self, name: str) -> np.ndarray | None:
        """Numbers that a party of this process knows of all rows, or its pixels; None: it has other columns."""
        inputs = self._here[name].inputs
        return next((inputs[kind] for kind in ("numbers", "pixel_values") if kind in inputs), None)

    def _all(self, phase, said) -> list[dict]:
        answers = self.ask(phase, {name: (said, ()) for name in self.label.others})
        return [self._own.answer(phase, said)[0], *(told for told, _ in answers.values())]

    def save(self, epoch: int) -> None:
        """Saves all parties' states, and what they found out about their columns, each at its place."""
        self._all("save", {"epoch": epoch})

    def restore(self) -> int:
        """Goes back to the last epoch that all parties have saved; returns it, 0 if there is none."""
        at_most = 2**31 - 1
        while True:
            epochs = [told["epoch"] for told in self._all("restore", {"at_most": at_most})]
            if len(set(epochs)) == 1:
                return epochs[0]
            at_most = min(epochs)


def party_directory(run_dir: str, name: str) -> str:
    """Where a party's own files are."""
    return os.path.join(run_dir, "parties", name)


def label_party_of(parties: Mapping[str, PartyConfig]) -> str:
    """The party with the labels."""
    return next(name for name, party in parties.items() if party.label is not None)


def load(config: RunConfig, settings: VerticalConfig, name: str, run_dir: str, trained: bool) -> assemble.LoadedParty:
    """A party's own part, with what it found out if it was trained."""
    facts = _facts(party_directory(run_dir, name)) if trained else None
    return assemble.load_party(config, settings, name, settings.party_configs()[name], facts)


def load_stored(
    config: RunConfig,
    settings: VerticalConfig,
    name: str,
    run_dir: str,
    trained: bool,
    noise_key: int | None = None,
) -> StoredParty:
    """A feature party with its directory."""
    loaded, path = load(config, settings, name, run_dir, trained), party_directory(run_dir, name)
    os.makedirs(path, exist_ok=True)
    return StoredParty(assemble.feature_party(settings, loaded, noise_key), loaded.facts, path)


def _facts(path):
    try:
        with open(os.path.join(path, FACTS), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} has no {FACTS} ({error}): train first, in the same run directory.") from None


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
                row |= _privacy(settings, federation.label.schedule.rows)
                federation.save(epoch)
                metrics.append(row, epoch)
                bar.set_postfix({name: f"{row[name]:.3f}" for name in ("train/loss", "eval/loss")})
                bar.update()
        results = {"test": _evaluate(federation, settings.epochs)}
        files.write_json(os.path.join(run_dir, directory.RESULTS), results)
        reporting.write_section(run_dir, "Vertical federation", _report(federation, settings, results["test"]))
    return results


def evaluate(config: RunConfig, settings: VerticalConfig) -> dict[str, float]:
    """Figures of a trained run on held-out rows, without the parties of `settings.without`."""
    federation, epoch = _trained(config, settings)
    return _evaluate(federation, epoch)


def predict(config: RunConfig, settings: VerticalConfig, output: str | None = None) -> str:
    """Predicts all rows of the parties' tables with a trained run; returns the path of the table that it wrote.

    Its columns are `row`, the place in the common order, and the probability of each class, or the number.

    Raises:
      UserError: If there is no trained run, or the data or the output are wrong.
    """
    federation, epoch = _trained(config, settings)
    logits, rows = vertical.predict(federation.label, federation.ask, settings, "all", epoch)
    found = logits if federation.classes is None else scipy.special.softmax(logits, axis=1)
    path = output or os.path.join(run_directory(config), "predictions.csv")
    try:
        with files.atomic(path) as file:
            writer = csv.writer(file)
            writer.writerow(["row", *(federation.classes or ["prediction"])])
            writer.writerows([row, *(f"{value:.6g}" for value in values)] for row, values in zip(rows, found))
    except OSError as error:
        raise UserError(f"{setting('vertical_run.output')}={path} cannot be written ({error.strerror}).") from None
    return path


def _trained(config, settings):
    run_dir = run_directory(config)
    if not os.path.exists(os.path.join(run_dir, directory.CONFIG)):
        raise UserError(f"{setting('run.directory')}={run_dir} holds no run of a vertical federation: train first.")
    settings = _checked(run_dir, config, settings, ("parties",))
    federation = Federation(config, settings, run_dir, trained=True)
    return federation, federation.restore()


def _evaluate(federation, epoch):
    return vertical.evaluate(federation.label, federation.ask, federation.settings, federation.labels, "test", epoch)


def _privacy(settings: VerticalConfig, rows: int) -> dict[str, float]:
    """Epsilon of labels, and of the features of a row that is predicted, where there is a guarantee."""
    found = {}
    if settings.cut_noise:
        guard, delta = vertical.Guard(settings.cut_clip, settings.cut_noise), accounting.default_delta(rows, "example")
        found["privacy/epsilon_prediction"] = guard.epsilon(1, delta)
    if settings.label_epsilon is not None:
        found["privacy/epsilon_labels"] = settings.label_epsilon
    return found


def _report(federation, settings, results):
    lines = [f"Parties: {', '.join(federation.names)}; {federation.label.name} has the labels."]
    changed = [f.name for f in settings.fields() if getattr(settings, f.name) != f.default]
    lines.append("Settings: " + "; ".join(f"`{name}={show(getattr(settings, name))}`" for name in changed))
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
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
        before, seed = stored["vertical"], stored["run"]["run"]["seed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not that of a vertical federation ({error}): choose another directory.") from None
    now = files.plain(dataclasses.asdict(settings))
    for field in settings.fields():
        if field.name not in free and not field.option.may_change and before.get(field.name) != now[field.name]:
            raise UserError(
                f"{setting(field.path)} was {show(before.get(field.name))} in {setting('run.directory')}={run_dir}, is "
                f"{show(now[field.name])}: a run goes on with the same settings, or choose another directory."
            )
    if seed != config.run.seed:
        raise UserError(f"{setting('run.seed')} was {seed} in {run_dir}: keep it, or choose another directory.")
    return settings
