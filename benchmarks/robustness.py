"""Attacks against defences on handwritten digits: `python -m benchmarks.robustness`.

Each cell is a run of `programs.train --flagfile=programs/flags/robustness.flags`: the accuracy on held-out digits and,
where the attack has a backdoor, the share of pictures that its trigger turns to the attacker's label. Runs that are
done are not repeated, and those that were interrupted go on: start it again with the same --run_dir.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from benchmarks import report
from benchmarks.processes import ROOT

_ATTACKERS = "--attackers=0.22"  # 5 of the 23

ATTACKS = {
    "none": [],
    "label flip": ["--attack=label_flip", _ATTACKERS],
    "sign flip, times 4": ["--attack=sign_flip", "--attack_scale=4", _ATTACKERS],
    "Gaussian, deviation 1": ["--attack=gaussian", _ATTACKERS],
    "model replacement": ["--attack=model_replacement", _ATTACKERS],
    "a little is enough, z = 1.5": ["--attack=little_is_enough", "--attack_scale=1.5", _ATTACKERS],
    "free riders": ["--attack=free_rider", _ATTACKERS],
}

_ASSUMED = "--assumed_attackers=0.22"

DEFENCES = {
    "mean": [],
    "norm bound": ["--update_clip_norm=1"],
    "attention": ["--aggregator=attention"],
    "median": ["--aggregator=median"],
    "trimmed mean": ["--aggregator=trimmed_mean", _ASSUMED],
    "Krum": ["--aggregator=krum", _ASSUMED],
    "Multi-Krum": ["--aggregator=multi_krum", _ASSUMED],
    "Bulyan": ["--aggregator=bulyan", _ASSUMED],
    "geometric median": ["--aggregator=geometric_median"],
    "centred clipping": ["--aggregator=centered_clipping", "--centered_clip_norm=0.5"],
}


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/robustness.json")
    parser.add_argument("--run_dir", default="runs/robustness", help="where the runs go")
    parser.add_argument("--attack", action="append", choices=list(ATTACKS), help="several: only these")
    parser.add_argument("--defence", action="append", choices=list(DEFENCES), help="several: only these")
    parser.add_argument("--seed", type=int, default=1)
    flags, more = parser.parse_known_args()
    chosen, defences = flags.attack or list(ATTACKS), flags.defence or list(DEFENCES)
    result = {"machine": report.machine(), "flags": vars(flags), "more_flags": more, "cells": {}}
    for attack in chosen:
        result["cells"][attack] = {defence: run(attack, defence, flags, more) for defence in defences}
    print(f"\n{tell(result['cells'])}\n")
    print(f"Written to {report.write('robustness', result, flags.output)}")


def run(attack: str, defence: str, flags, more: list[str]) -> dict:
    """The metrics on held-out digits of one run, which is done now if it was not before."""
    directory = os.path.join(flags.run_dir, f"{_file_name(attack)}-{_file_name(defence)}-{flags.seed}")
    results = os.path.join(directory, "results.json")
    if not os.path.exists(results):
        started = time.monotonic()
        preset = os.path.join(ROOT, "programs", "flags", "robustness.flags")
        command = [
            *(sys.executable, "-m", "programs.train", f"--flagfile={preset}", f"--run_dir={directory}"),
            *(f"--seed={flags.seed}", *ATTACKS[attack], *DEFENCES[defence], *more),
        ]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{attack} against {defence} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
        print(f"{attack} against {defence}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    with open(results) as file:
        return json.load(file)["test"]


def tell(cells: dict[str, dict[str, dict]]) -> str:
    """A Markdown table: a row a defence, a column an attack; accuracy, and in brackets the backdoor's success."""
    attacks = list(cells)
    defences = list(cells[attacks[0]])
    rows = [[defence, *(_told(cells[attack][defence]) for attack in attacks)] for defence in defences]
    return report.table(["defence", *attacks], rows)


def _told(metrics):
    told = f"{100 * metrics['accuracy']:.1f}"
    if "backdoor_success" in metrics:
        told += f" ({100 * metrics['backdoor_success']:.1f})"
    return told


def _file_name(name):
    return "".join(c if c.isalnum() else "_" for c in name)


if __name__ == "__main__":
    main()
