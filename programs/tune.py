"""Searches for better settings: `python -m programs.tune --dataset=digits --validation_fraction=0.1 --budget=120`.

Optuna proposes values of the settings in --space (default: rates, batch size and what the algorithm adds), and
Hyperband over rounds drops what is worse by more than the noise of its evaluation. All other flags are those of
programs.train. The result is in --study_dir: table.csv, plots, best.flags, and in best/ the trained best model. The
same command again resumes a study.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config import SECTIONS, check, resolve
from tff_tx.config.rules import RULES
from tff_tx.config.space import Space
from tff_tx.config.tools import TuneConfig


def main(settings: cli.Settings) -> None:
    own, config = settings[TuneConfig], settings.config
    check(resolve(config), RULES)  # at once; to import TensorFlow takes seconds
    space = None if own.space is None else Space.load(own.space)
    from tff_tx.run.tuning import tune_config

    cli.end_of_imports()
    print(tune_config(config, space, own))


PROGRAM = cli.Program(main, TuneConfig, settings=[section.section for section in SECTIONS], resumes=True)

if __name__ == "__main__":
    PROGRAM.run()
