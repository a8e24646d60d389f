"""Coordinates a federation: `python -m programs.coordinate --silos=north,south,west ...`.

The flags are those of programs.train, with participants (--silos) in place of training data: each starts
`python -m programs.participate`. The run directory, its report and how a run is resumed are as in programs.train.
"""

from __future__ import annotations

from programs import cli, train
from tff_tx.config import SECTIONS, check, coordinated, resolve
from tff_tx.config.rules import RULES
from tff_tx.core import tls


def main(settings: cli.Settings) -> None:
    config = coordinated(settings.config)
    check(resolve(config), RULES)
    tls.require_tls_1_3()
    from tff_tx.run.assemble import plans

    print(f"Plan {plans.digest(plans.plan_of(resolve(config)))}", flush=True)
    train.train(config)


PROGRAM = cli.Program(main, settings=[section.section for section in SECTIONS], resumes=True)

if __name__ == "__main__":
    PROGRAM.run()
