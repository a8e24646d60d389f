"""Trains with ensemble distillation on the server: FedDF.

`python -m programs.distill --dataset=digits --validation_fraction=0.2` uses the validation split as the server's public
data, without its labels. With several --group the clients have models of different architectures and sizes, which learn
from one another through their predictions; each model is then in groups/NAME of --run_dir.
"""

from __future__ import annotations

from programs import cli
from programs.train import train
from tff_tx.config import SECTIONS


def main(settings: cli.Settings) -> None:
    train(settings.config.replace({"ensemble.enabled": True}))


PROGRAM = cli.Program(main, settings=[section.section for section in SECTIONS], resumes=True)

if __name__ == "__main__":
    PROGRAM.run()
