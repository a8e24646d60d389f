"""What all trackers share: settings and figures to send, and the tracker's own run that a resumed run goes on with."""

from __future__ import annotations

import abc
import importlib
import os
from typing import Any

from tff_tx.config import show
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory
from tff_tx.run.callbacks import Callback, RoundResult, RunState

_RECORD = "trackers.json"


class Tracker(Callback):
    """A tracker whose runs have ids; after a kill, rounds that are run again are sent again with the same figures.

    Attributes:
      name: Its name among the settings, and of the extra that installs it.
      package: What it imports.
    """

    name: str
    package: str

    @abc.abstractmethod
    def start(self, package: Any, run_dir: str, settings: dict[str, str], known: str | None) -> str:
        """Begins a run with these settings, or goes on with the known one; returns its id."""

    @abc.abstractmethod
    def log(self, figures: dict[str, float], round_num: int) -> None:
        """Sends the figures of a round."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Ends the run."""

    def on_start(self, run: RunState) -> None:
        try:
            package = importlib.import_module(self.package)
        except ImportError as error:
            raise UserError(
                f"{setting('run.trackers')}={self.name} needs the package {self.package}: install tff_tx[{self.name}]."
            ) from error
        path = os.path.join(run.directory, _RECORD)
        known = {}
        if os.path.exists(path):
            known = files.read_json(path)
        changed = directory.read_run(run.directory).config.changed()
        settings = {name: show(value) for name, value in changed.items()}
        found = self.start(package, run.directory, settings, known.get(self.name) if run.first else None)
        files.write_json(path, {**known, self.name: found})

    def on_round_end(self, result: RoundResult) -> None:
        self.log({name: float(value) for name, value in result.row.items()}, result.round_num)

    def on_end(self, run: RunState) -> None:
        self.finish()
