"""Shows what a data set looks like: `python -m programs.data --dataset=digits --plot=digits.png`.

Prints how files are written (format, encoding, delimiter), their columns with kinds and examples, rows that repeat
others or would be skipped, and the command line of the likely task; for every split clients and examples, how the
examples spread over clients, the label distribution and how it varies over clients, and the lengths in tokens. With
--plot the same as a picture; with --task and --pretrained what these make of the data.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import DataReportConfig


def main(settings: cli.Settings) -> None:
    from tff_tx.run import data_report

    between = ""
    for section in data_report.data_report(settings.config, settings[DataReportConfig]):
        print(between + section)
        between = "\n"


PROGRAM = cli.Program(
    main, DataReportConfig, settings=["task", "model.pretrained", "model.architecture", "data", "run.seed"]
)

if __name__ == "__main__":
    PROGRAM.run()
