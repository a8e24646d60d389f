"""Tuning: studies of many runs."""

from __future__ import annotations

from tff_tx.config import RunConfig, check, resolve
from tff_tx.config.space import Space
from tff_tx.config.tools import TuneConfig
from tff_tx.run.trainer import Trainer
from tff_tx.run.tuning import report, study


def tune_config(config: RunConfig, space: Space | None, own: TuneConfig) -> report.Result:
    """Runs a study of a whole configuration; `space` None: a default for it.

    Raises:
      UserError: If something is wrong with the settings, the space, the budget or the data.
    """
    check(resolve(config))
    study.budget_of(config, own.budget)  # before data are read, as the space
    if space is not None:
        space.check(config)
    trainer = Trainer.from_config(config)
    return study.tune(trainer.task, trainer.config, space or Space.default(trainer.config), own, None, True)
