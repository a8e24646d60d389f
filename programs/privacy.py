"""How private a run would be, and what that costs, without training.

`python -m programs.privacy --noise_multiplier=1 --population=10000 --clients_per_round=100 --sampling=poisson
--rounds=1000` computes epsilon; with --target_epsilon in place of --noise_multiplier it finds the noise. Flags mean
what they mean to `programs.train`. Prints tables of epsilon over rounds and noise; --plot draws them.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import PrivacyReportConfig


def main(settings: cli.Settings) -> None:
    from tff_tx.privacy import calculator

    own = settings[PrivacyReportConfig]
    report = calculator.report(settings.config, own)
    print(report.text())
    if own.plot:
        report.draw(own.plot)
        print(f"\nPlot: {own.plot}")


_PRIVACY = (
    *("noise_multiplier", "target_epsilon", "target_delta", "stop_at_epsilon", "population", "accountant"),
    *("amplification", "bands", "restart_rounds"),
)
PROGRAM = cli.Program(
    main,
    PrivacyReportConfig,
    settings=[
        *(f"privacy.{name}" for name in _PRIVACY),
        *("run.rounds", "cohort.clients_per_round", "cohort.sampling", "cohort.min_separation"),
    ],
)

if __name__ == "__main__":
    PROGRAM.run()
