"""Accuracy at a price: trains with several mechanisms, epsilons and trainables, and writes one table.

`python -m benchmarks.privacy_table --preset=programs/flags/stdlib_dp.flags --out_dir=runs/privacy --epsilon=1
--epsilon=8 --mechanism=gaussian --mechanism=tree` runs `programs.train` once a cell, one after another, each in a
directory of its own below --out_dir. A cell that is finished is not run again, and one that was interrupted goes on
from its last checkpoint; the table is written anew after each.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import processes, report

MECHANISMS = {
    "none": ["--dp_mechanism=none"],
    "gaussian": ["--dp_mechanism=gaussian", "--sampling=poisson"],
    "gaussian without amplification": ["--dp_mechanism=gaussian", "--sampling=min_separation"],
    "adaptive": ["--dp_mechanism=adaptive", "--sampling=poisson"],
    "tree": ["--dp_mechanism=tree", "--sampling=min_separation"],
    "banded": ["--dp_mechanism=banded", "--sampling=min_separation"],
}
"""The flags that make a mechanism of a preset; what it needs besides is in the preset or given with `--flags`."""


def main() -> int:
    """Runs what is missing and writes the table."""
    flags = _flags()
    failed = []
    cells = list(_cells(flags))
    for number, (cell, command) in enumerate(cells, 1):
        directory = os.path.join(flags.out_dir, cell_name(cell))
        if not os.path.exists(os.path.join(directory, "results.json")):
            print(f"{number}/{len(cells)} {directory}", file=sys.stderr, flush=True)
            if subprocess.run([*command, f"--run_dir={directory}"], cwd=processes.ROOT, check=False).returncode:
                failed.append(directory)
        _write(flags, [cell for cell, _ in cells])
    print(_write(flags, [cell for cell, _ in cells]))
    for directory in failed:
        print(f"failed: {directory}", file=sys.stderr)
    return 1 if failed else 0


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", required=True, help="a file of flags; may be given several times")
    parser.add_argument("--out_dir", required=True, help="where the runs and the table go")
    parser.add_argument("--epsilon", action="append", type=float, help="1, 4, 8 and inf, which is a run without noise")
    parser.add_argument("--mechanism", action="append", choices=MECHANISMS, help="gaussian, tree and banded")
    parser.add_argument(
        "--trainable", action="append", help="name=flags, such as 'head only=--trainable=head'; default: as the preset"
    )
    parser.add_argument("--flags", default="", help="more flags for every run, such as --data=...")
    parser.add_argument("--metric", action="append", help="columns of the test split; default: loss and accuracy")
    flags = parser.parse_args()
    flags.epsilon = flags.epsilon or [1.0, 4.0, 8.0, math.inf]
    flags.mechanism = flags.mechanism or ["gaussian", "tree", "banded"]
    flags.metric = flags.metric or ["loss", "accuracy"]
    flags.trainable = dict(given.split("=", 1) for given in flags.trainable or ["preset="])
    return flags


def _cells(flags: argparse.Namespace) -> Iterator[tuple[dict, list[str]]]:
    """Each cell of the table with its command; without noise mechanisms do not differ but in their sampling."""
    everything = itertools.product(flags.preset, flags.trainable, flags.mechanism, flags.epsilon)
    for preset, trainable, mechanism, epsilon in everything:
        cell = {"preset": _stem(preset), "trainable": trainable, "mechanism": mechanism, "epsilon": epsilon}
        command = [sys.executable, "-m", "programs.train", f"--flagfile={preset}", *MECHANISMS[mechanism]]
        if mechanism != "none":
            command.append(f"--target_epsilon={epsilon:g}")
        command += shlex.split(flags.trainable[trainable]) + shlex.split(flags.flags)
        yield cell, command


def cell_name(cell: Mapping) -> str:
    """The directory of a cell."""
    return "-".join(str(part).replace(" ", "_") for part in cell.values())


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _write(flags: argparse.Namespace, cells: Sequence[Mapping]) -> str:
    """Writes the table of what is finished, and gives it."""
    header = ["preset", "trainable", "parameters", "mechanism", "epsilon", "spent", *flags.metric, "minutes"]
    rows = []
    for cell in cells:
        found = read_cell(os.path.join(flags.out_dir, cell_name(cell)))
        if found is not None:
            figures = [f"{found['results'].get(name, math.nan):.4f}" for name in flags.metric]
            spent = "-" if found["epsilon"] is None else f"{found['epsilon']:.2f}"
            about = [cell["preset"], cell["trainable"], f"{found['parameters']:,}", cell["mechanism"]]
            rows.append([*about, f"{cell['epsilon']:g}", spent, *figures, f"{found['seconds'] / 60:.1f}"])
    table = report.table(header, rows)
    os.makedirs(flags.out_dir, exist_ok=True)
    with open(os.path.join(flags.out_dir, "table.md"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    return table


def read_cell(directory: str) -> dict | None:
    """What a finished run came to.

    Args:
      directory: Its --run_dir.

    Returns:
      None if it is not finished; else `results` of the test split by metric, the number of trainable `parameters`, the
      `epsilon` of its last round (None without), and `seconds` in rounds.
    """
    try:
        with open(os.path.join(directory, "results.json"), encoding="utf-8") as file:
            results = json.load(file)
    except FileNotFoundError:
        return None
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(directory, "metrics.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epsilon = rows[-1].get("privacy/epsilon")
    return {
        "results": results["test"],
        "parameters": config["parameters"]["trainable"],
        "epsilon": float(epsilon) if epsilon else None,
        "seconds": sum(float(row["time/round_seconds"]) for row in rows),
    }


if __name__ == "__main__":
    sys.exit(main())
