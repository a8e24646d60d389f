"""What federated pretraining brings where labels are few: `python -m benchmarks.pretraining --news=FILE --plays=FILE`.

A small GPT-2 is pretrained by language modeling on the plays, or on the news without their labels, and then tells
four classes of news apart after a few labelled items a client; beside it the same model with random weights. All have
the same vocabulary, which the news' clients learn with epsilon 4, the same clients, and the same fine-tuning, whose
seed decides which items are labelled, the cohorts, and the weights that are new. The last 1,600 items are held out from
everything. Each step is one command with a preset; those that are done are not repeated: start it again with the same
--run_dir.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time

from benchmarks import report
from benchmarks.processes import ROOT

STARTS = ("random weights", "plays", "news")
"""Where the weights come from."""

_HELD_OUT = 1600


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/pretraining.json")
    parser.add_argument("--news", required=True, help="ag_news_7600.csv of data/ag_news")
    parser.add_argument("--plays", help="plays.txt of data/shakespeare; default: without the plays")
    parser.add_argument("--run_dir", default="runs/pretraining", help="where the runs go")
    parser.add_argument("--labels", type=int, action="append", help="labelled items a client: 1, 4 and 16")
    parser.add_argument("--seeds", type=int, default=3, help="of the fine-tuning")
    parser.add_argument("--rounds", type=int, default=30, help="of pretraining")
    flags = parser.parse_args()
    flags.labels = flags.labels or [1, 4, 16]
    starts = [start for start in STARTS if start != "plays" or flags.plays]
    steps = Steps(flags)
    result = {"machine": report.machine(), "flags": vars(flags), "pretraining": {}, "accuracy": {}}
    for start in starts[1:]:
        result["pretraining"][start] = steps.pretrain(start)
    for seed in range(1, flags.seeds + 1):
        for labels in flags.labels:
            for start in starts:
                found = steps.fine_tune(start, labels, seed)["accuracy"]
                result["accuracy"].setdefault(start, {}).setdefault(str(labels), []).append(found)
        path = report.write("pretraining", result, flags.output)
    print(f"\n{tell(result['accuracy'])}\n")
    print(f"Written to {path}")


class Steps:
    """The commands, each in a directory of its own.

    Args:
      flags: Of this program.
    """

    def __init__(self, flags: argparse.Namespace):
        self._flags = flags
        os.makedirs(flags.run_dir, exist_ok=True)
        self._train, self._test = self._path("train.csv"), self._path("test.csv")
        split(flags.news, self._train, self._test)
        self._vocabulary = self._path("vocabulary")

    def pretrain(self, start: str) -> dict:
        """Learns the vocabulary if there is none yet, and a language model; its figures on held-out text."""
        if not os.path.exists(self._vocabulary):
            preset = _preset("vocabulary_news")
            self._run("vocabulary", preset, *self._news(), f"--output={self._vocabulary}", "--dp_noise_seed=1")
        data = self._news() if start == "news" else (f"--data={self._flags.plays}",)
        preset = (_preset(f"pretrain_{start}"), f"--tokenizer={self._vocabulary}", f"--rounds={self._flags.rounds}")
        return self._trained(f"pretrain_{start}", *preset, *data)

    def fine_tune(self, start: str, labels: int, seed: int) -> dict:
        """Trains a classifier; its figures on the held-out items."""
        if start == STARTS[0]:
            model = ("--architecture=gpt2", f"--model_config={self._model_config()}", f"--tokenizer={self._vocabulary}")
        else:
            model = (f"--pretrained={self._path(f'pretrain_{start}', 'model')}",)
        preset = (_preset("ag_news_few_labels"), f"--max_train_examples_per_client={labels}", f"--seed={seed}")
        return self._trained(f"{start.replace(' ', '_')}-{labels}-{seed}", *preset, *model, *self._news())

    def _news(self):
        return f"--data={self._train}", f"--test_data={self._test}"

    def _model_config(self):
        """That of pretraining."""
        with open(os.path.join(ROOT, "programs", "flags", "pretrain_news.flags"), encoding="utf-8") as file:
            (line,) = (line for line in file if line.startswith("--model_config="))
        return line.strip().split("=", 1)[1]

    def _trained(self, name, *flags):
        results = self._path(name, "results.json")
        if not os.path.exists(results):
            self._run("train", f"--run_dir={self._path(name)}", *flags)
        with open(results, encoding="utf-8") as file:
            return json.load(file)["test"]

    def _path(self, *parts):
        return os.path.abspath(os.path.join(self._flags.run_dir, *parts))

    def _run(self, program, *flags):
        started = time.monotonic()
        command = [sys.executable, "-m", f"programs.{program}", *flags]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
        print(
            f"{time.monotonic() - started:.0f} s: {done.stdout.strip().splitlines()[-2:]}", file=sys.stderr, flush=True
        )


def _preset(name):
    return f"--flagfile={os.path.join(ROOT, 'programs', 'flags', f'{name}.flags')}"


def split(source: str, train: str, test: str) -> None:
    """Writes all items but the last 1,600 to one file, and those to another, if they are not there."""
    if os.path.exists(train) and os.path.exists(test):
        return
    with open(source, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for path, part in ((train, rows[:-_HELD_OUT]), (test, rows[-_HELD_OUT:])):
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(part)


def tell(accuracies: dict[str, dict[str, list[float]]]) -> str:
    """A table of accuracies in percent: a row a start, a column a number of labels; medians with ranges."""
    columns = list(next(iter(accuracies.values())))
    rows = [
        [start, *(report.spread(found[labels], digits=1, scale=100) for labels in columns)]
        for start, found in accuracies.items()
    ]
    return report.table(["pretrained on", *(f"{labels} labels a client" for labels in columns)], rows)


if __name__ == "__main__":
    main()
