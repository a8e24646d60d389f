"""Ranks the clients of a run by what they contributed: `python -m programs.contribution --run_dir=RUN`.

The run must have stored its updates (`programs.train --keep_updates`). Nothing is trained again: models that the rounds
would have led to without some of their clients are made from the updates and evaluated on held-out data. Prints the
ranking with its uncertainty and what it cost, and writes it as JSON, with a plot.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import ContributionConfig
from tff_tx.core.errors import UserError, setting


def main(settings: cli.Settings) -> None:
    own = settings[ContributionConfig]
    if own.run_dir is None:
        raise UserError(f"{setting('contribution.run_dir')} is not set: name a run that stored its updates.")
    from tff_tx.run import contribution

    cli.end_of_imports()
    print(contribution.value_run(own.run_dir, own))


PROGRAM = cli.Program(main, ContributionConfig)

if __name__ == "__main__":
    PROGRAM.run()
