"""Trains one Transformer over parties that know different things of the same rows: `python -m programs.vertical`.

Without flags: the left halves of handwritten digits, and which digits they are, at one party, the right halves at
another. Each party's bottom model stays with it; activations cross the cut, and gradients come back. The run directory
has config.json, metrics.csv and a directory for each party; the same command resumes it. --action=evaluate and predict
use a trained run, also --without a party. With --party this process is one of them, and the others are elsewhere.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.rules_vertical import check_vertical
from tff_tx.config.vertical import VerticalActionConfig, VerticalConfig
from tff_tx.core import tls


def main(settings: cli.Settings) -> None:
    config, own, action = settings.config, settings[VerticalConfig], settings[VerticalActionConfig]
    parties = check_vertical(own)
    if not own.parties:
        config = config.replace({"data.dataset": "digits"})
    elif config.data.files:
        config = config.replace({"data.dataset": "file"})
    tls.require_tls_1_3()
    from tff_tx.run import vertical, vertical_parties

    cli.end_of_imports()
    run = vertical.act if action.party is None else vertical_parties.run_party
    found = run(config, own, action)
    if isinstance(found, str):
        print(f"Predictions are in {found}")
    elif found is not None:
        print("\n".join(f"{name}: {value:.4f}" for name, value in found.items()))
        print(f"Results are in {vertical.run_directory(config)}")
    if action.party is not None and parties[action.party].label is None:
        print(f"All that left {action.party} is logged in {vertical_parties.log_path(config, action.party)}")


SETTINGS = ["data", "run.directory", "run.seed"]
PROGRAM = cli.Program(main, VerticalConfig, VerticalActionConfig, settings=SETTINGS, resumes=True)

if __name__ == "__main__":
    PROGRAM.run()
