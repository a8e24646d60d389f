"""Trains a Transformer federatedly: `python -m programs.train --flagfile=programs/flags/digits.flags`.

Without flags it trains a small byte-level language model on the sources of Python's standard library, a module a
client. Everything a run leaves is in --run_dir; the same command again resumes it.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config import SECTIONS, RunConfig, check, resolve
from tff_tx.config.rules import RULES


def main(settings: cli.Settings) -> None:
    train(settings.config)


def train(config: RunConfig) -> None:
    """Runs a configuration."""
    check(resolve(config), RULES)  # at once; to import TensorFlow takes seconds
    from tff_tx.run.trainer import Trainer

    cli.end_of_imports()
    Trainer.run(config)


PROGRAM = cli.Program(main, settings=[section.section for section in SECTIONS], resumes=True)

if __name__ == "__main__":
    PROGRAM.run()
