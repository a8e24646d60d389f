"""Weights & Biases: a run of the project of WANDB_PROJECT, or tff_tx; its files are in the run's `wandb/`."""

from __future__ import annotations

import os
from typing import Any

from tff_tx.run.trackers.tracker import Tracker


class Wandb(Tracker):
    """Settings are the run's configuration, figures are its history with the round as step."""

    name, package = "wandb", "wandb"

    def start(self, package: Any, run_dir: str, settings: dict[str, str], known: str | None) -> str:
        self._run = package.init(
            project=os.environ.get("WANDB_PROJECT", "tff_tx"),
            name=os.path.basename(run_dir),
            dir=run_dir,
            config=settings,
            id=known,
            resume="allow" if known else None,
        )
        return self._run.id

    def log(self, figures: dict[str, float], round_num: int) -> None:
        self._run.log(figures, step=round_num)

    def finish(self) -> None:
        self._run.finish()
