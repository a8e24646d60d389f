"""The parties of a vertical federation that are in this process, with their directories."""

from __future__ import annotations

import csv
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import vertical
from tff_tx.config import RunConfig
from tff_tx.config.rules_vertical import check_vertical, feature_parties, middle_of
from tff_tx.config.vertical import PartyConfig, VerticalConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory
from tff_tx.run.assemble import vertical as assemble
from tff_tx.run.checkpoints import Checkpoints

FACTS = "facts.json"
"""File of what a party found out about its columns, in its directory."""
PREDICTIONS = "predictions.csv"
"""File of predictions: in the run directory, and of the rows that a feature party alone has in its own."""
_NOISE_KEY = "noise.key"


class StoredParty:
    """A party whose weights, and what it found out about its columns, are in a directory of its own.

    Attributes:
      predictions: Path of the predictions that it has written of rows that it alone has; None: it has written none.

    Args:
      party: A `FeatureParty` or a `LabelParty`.
      facts: What it found out.
      path: The directory.
      places: int64, where each of its rows stands in its table, from 0.
    """

    def __init__(self, party: Any, facts: Mapping[str, Any], path: str, places: Sequence[int] = ()):
        self._party, self._initial, self._places = party, None, places
        self._facts, self._path, self._is_ready = dict(facts), path, False
        self.predictions: str | None = None

    @functools.cached_property
    def _checkpoints(self):
        """Made when they are needed: parties that do not fit leave no directory."""
        return Checkpoints(os.path.join(self._path, directory.CHECKPOINTS))

    @property
    def _half(self):
        return getattr(self._party, "half", self._party)

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Arrays of all rows, which stay with a feature party."""
        return self._party.inputs

    def answer(self, phase: str, said: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> tuple[dict, list]:
        """Answers as the party does, saves or restores its state, or writes predictions of rows that it alone has."""
        if phase not in ("open", "agree", "restore") and not self._is_ready:
            raise UserError("it was started anew in the middle of a run: give the label party's command again.")
        below = getattr(self._party, "below", lambda phase, said: [])  # of a party in the middle
        if phase == "save":
            below(phase, said)
            os.makedirs(self._path, exist_ok=True)
            files.write_json(os.path.join(self._path, FACTS), self._facts)
            self._checkpoints.save(self._half.state, int(said["epoch"]))
            return {}, []
        if phase == "predicted":
            self._write_predicted(said.get("classes"), arrays)
            return {}, []
        if phase == "restore":
            names = [self._party.name, *getattr(self._party, "parties", ())]
            restore = lambda most: [self._restore(most), *below(phase, {"at_most": most})]  # noqa: E731
            return {"epoch": common_epoch(names, restore, said["at_most"])}, []
        return self._party.answer(phase, said, arrays)

    def _write_predicted(self, classes, arrays):
        further = getattr(self._party, "further", 0)
        are_names = isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes)
        width = len(classes) if are_names else 1
        fits = [(array.shape, array.dtype.kind) for array in arrays] == [((further, width), "f")]
        if not further or not fits or not (are_names or classes is None):
            raise UserError(
                f"predictions came that are not of the {further} rows that it alone has, a number for each class: use "
                "the same release of tff_tx, and give all parties' commands again."
            )
        path = os.path.join(self._path, PREDICTIONS)
        try:
            write_predictions(path, self._places[-further:], classes, arrays[0])
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): make room or restore it.") from None
        self.predictions = path

    def _restore(self, at_most):
        if self._initial is None:
            self._initial = self._half.state  # where another party has lost all that it saved, all begin anew
        state, epoch = self._checkpoints.load_latest(self._initial, int(at_most))
        self._half.state, self._is_ready = tf.nest.map_structure(tf.constant, state), True
        return {"epoch": epoch}


def common_epoch(names: Sequence[str], restore: Callable[[int], list[dict]], at_most: int = 2**31 - 1) -> int:
    """Has parties go back, as often as it takes, to the last epoch that all have saved; returns it, 0 without any.

    A warning says what is lost by that, and by whom.
    """
    found = newest = [told["epoch"] for told in restore(at_most)]
    while len(set(found)) > 1:
        found = [told["epoch"] for told in restore(min(found))]
    if max(newest) > found[0]:
        behind = [name for name, epoch in zip(names, newest) if epoch == min(newest)]
        told = " and ".join(behind), min(newest), max(newest), found[0]
        logging.warning("%s has saved nothing after epoch %d: all parties go back from epoch %d to %d", *told)
    return found[0]


class Federation:
    """The parties of a configuration: all in this process, or the one with the labels alone.

    Attributes:
      settings: Of the federation.
      label: The label party.
      names: Of all parties.
      classes: Names of the classes; None: labels are numbers.
      labels: True labels of all rows.
      places: int64, where each row stands in the table of the party with the labels, from 0.
      further: By feature party how many rows it alone has, of those that have any (federated transfer).
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
        others, middle = feature_parties(self._parties), middle_of(self._parties)
        self._here = {}
        for other in others if remote is None else ():
            self._here[other] = load_stored(config, settings, other, run_dir, trained)
        self.ask = remote or self._ask_here
        if middle is not None:
            others = [middle]
            self._here |= {} if remote else {middle: stored_middle(config, settings, middle, run_dir, self._ask_here)}
        own = load(config, settings, name, run_dir, trained)
        found = vertical.open_federation(others, self.ask, own.schedule.rows, own.alignment)
        tokens = assemble.tokens_of(self._parties, own, {other: told["tokens"] for other, told in found.items()})
        self.further = {other: told["further"] for other, told in found.items() if told["further"]}
        path = party_directory(run_dir, name)
        self.label = assemble.label_party(config, settings, own, tokens, noise_key(path) if remote else None)
        self.names, self.classes, self.labels = list(self._parties), own.facts.get("classes"), own.data.labels
        self.places = own.places
        self._own = StoredParty(self.label, own.facts, path)

    def _ask_here(self, phase, asked):
        found = {}
        for name, (said, arrays) in asked.items():
            try:
                found[name] = self._here[name].answer(phase, said, arrays)
            except UserError as error:
                raise error.within(f"{setting('vertical.parties')}: {name}") from None
        return found

    def features(self, name: str) -> np.ndarray | None:
        """Numbers that a party of this process knows of all rows, or its pixels; None: it has other columns.

        Numbers that are missing are their column's mean: there is nothing of them to reconstruct.
        """
        inputs = self._here[name].inputs
        found = next((inputs[kind] for kind in ("numbers", "pixel_values") if kind in inputs), None)
        if found is None or not np.isnan(found).any():
            return found
        return np.where(np.isnan(found), np.nan_to_num(np.nanmean(found, axis=0)), found)

    def _all(self, phase, said) -> list[dict]:
        answers = self.ask(phase, {name: (said, ()) for name in self.label.others})
        return [self._own.answer(phase, said)[0], *(told for told, _ in answers.values())]

    def save(self, epoch: int) -> None:
        """Saves all parties' states, and what they found out about their columns, each at its place."""
        self._all("save", {"epoch": epoch})

    def restore(self) -> int:
        """Goes back to the last epoch that all parties have saved; returns it, 0 if there is none."""
        names = [self.label.name, *self.label.others]
        return common_epoch(names, lambda at_most: self._all("restore", {"at_most": at_most}))

    def restore_trained(self, run_dir: str) -> int:
        """As `restore`, of a run that is used and not trained on.

        Raises:
          UserError: If no epoch of training has been saved by all parties.
        """
        if not (epoch := self.restore()):
            raise UserError(
                f"{setting('run.directory')}={run_dir} has no epoch of training that all parties have saved: train "
                "first, by the same command."
            )
        return epoch


def write_predictions(path: str, places: Sequence[int], classes: Sequence[str] | None, values: np.ndarray) -> None:
    """Writes a table with a column `row` and one for each class, or with the column `prediction`.

    Args:
      path: Of the table.
      places: Where each row stands in its party's table, from 0.
      classes: Names of the classes; None: labels are numbers.
      values: float32 [rows, outputs], probabilities or numbers.

    Raises:
      OSError: If it cannot be written.
    """
    with files.atomic(path) as file:
        writer = csv.writer(file)
        writer.writerow(["row", *(classes or ["prediction"])])
        writer.writerows([place, *(f"{value:.6g}" for value in row)] for place, row in zip(places, values))


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
    kit: Sequence[Any] = (),
) -> StoredParty:
    """A feature party with its directory; `noise_key` and `kit` as of `assemble.feature_party`."""
    loaded, path = load(config, settings, name, run_dir, trained), party_directory(run_dir, name)
    return StoredParty(assemble.feature_party(settings, loaded, noise_key, kit), loaded.facts, path, loaded.places)


def stored_middle(
    config: RunConfig, settings: VerticalConfig, name: str, run_dir: str, ask: vertical.Ask
) -> StoredParty:
    """The party in the middle with its directory; `ask` reaches those with columns."""
    path = party_directory(run_dir, name)
    return StoredParty(assemble.middle_party(config, settings, name, ask), {}, path)


def noise_key(path: str) -> int:
    """The seed of the noise of a party that is a process: its own secret, and the same when it resumes."""
    path = os.path.join(path, _NOISE_KEY)
    if not os.path.exists(path):
        files.make_private(os.path.dirname(path))
        with files.atomic(path, "wb", private=True) as file:
            file.write(os.urandom(16))
    with open(path, "rb") as file:
        return int.from_bytes(file.read(), "big")


def _facts(path):
    try:
        return files.parse_json(os.path.join(path, FACTS))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} has no {FACTS} ({error}): train first, in the same run directory.") from None
