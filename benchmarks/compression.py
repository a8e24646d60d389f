"""Bytes against accuracy: `python -m benchmarks.compression`.

The preset `stdlib` (a byte-level language model over Python's standard library, a module a client) is trained once with
each kind of compression, by `programs.train`. Bytes are those that the codec made of what clients sent, entropy-coded
and with all that frames them, in the mean over clients and rounds. A run that is killed goes on where it was when the
command is given again, and a finished one is not run again; `--contender` takes some of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pandas as pd

from benchmarks import report
from benchmarks.processes import ROOT

CONTENDERS = {
    "none": (),
    "uniform8": ("--compression=uniform8",),
    "stochastic4": ("--compression=stochastic4",),
    "rotated2": ("--compression=rotated2",),
    "eden2": ("--compression=eden2",),
    "eden1": ("--compression=eden1",),
    "eden1, error feedback": ("--compression=eden1", "--error_feedback"),
    "top_k 1 %": ("--compression=top_k", "--compression_fraction=0.01"),
    "top_k 3 %": ("--compression=top_k", "--compression_fraction=0.03"),
    "top_k 3 %, no feedback": ("--compression=top_k", "--compression_fraction=0.03", "--noerror_feedback"),
    "random_k 3 %": ("--compression=random_k", "--compression_fraction=0.03"),
    "low_rank 2": ("--compression=low_rank", "--compression_rank=2"),
    "low_rank 4": ("--compression=low_rank", "--compression_rank=4"),
    "eden1, download uniform8": ("--compression=eden1", "--download_compression=uniform8"),
}
"""The flags of each."""


def main() -> None:
    """Runs, prints, draws and writes."""
    parser = report.parser(__doc__, "benchmarks/results/compression.json")
    parser.add_argument("--flagfile", default=os.path.join("programs", "flags", "stdlib.flags"), help="what is trained")
    parser.add_argument("--rounds", type=int, default=300, help="of each run")
    parser.add_argument("--seed", type=int, default=1, help="of each run")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="several; default: all")
    parser.add_argument("--flag", action="append", default=[], help="another flag of programs.train, for all of them")
    flags = parser.parse_args()
    directory = os.path.join(report.RESULTS, "compression")
    figures = {}
    for name in flags.contender or CONTENDERS:
        run_dir = os.path.join(directory, f"{_slug(name)}_{flags.rounds}_{flags.seed}")
        train(CONTENDERS[name], run_dir, flags)
        figures[name] = read(run_dir)
    print(f"\n{tell(figures)}\n")
    result = {"machine": report.machine(), "flags": vars(flags), "figures": figures}
    print(f"Written to {report.write('compression', result, flags.output)}, {plot(figures, directory)}")


def train(contender: tuple[str, ...], run_dir: str, flags) -> None:
    """Trains, unless that is done; its progress goes to standard error."""
    if os.path.exists(os.path.join(run_dir, "results.json")):
        return
    own = (f"--run_dir={run_dir}", f"--rounds={flags.rounds}", f"--seed={flags.seed}", "--rounds_per_checkpoint=10")
    command = [sys.executable, "-m", "programs.train", f"--flagfile={flags.flagfile}", *own, *flags.flag, *contender]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def read(run_dir: str) -> dict[str, float]:
    """A finished run's accuracy and loss on held-out data, and what a client sent and received a round."""
    with open(os.path.join(run_dir, "results.json"), encoding="utf-8") as file:
        (results,) = (r for split, r in json.load(file).items() if split == "test")
    with open(os.path.join(run_dir, "config.json"), encoding="utf-8") as file:
        parameters = json.load(file)["parameters"]["trainable"]
    rounds = pd.read_csv(os.path.join(run_dir, "metrics.csv"))
    return {
        "accuracy": results["accuracy"],
        "loss": results["loss"],
        "float32_bytes": 4 * parameters,
        "upload_bytes": rounds["comm/upload_bytes_per_client"].mean(),
        "download_bytes": rounds["comm/download_bytes_per_client"].mean(),
        "seconds": rounds["time/round_seconds"].median(),
    }


def tell(figures: dict[str, dict[str, float]]) -> str:
    """A table: a row a contender, accuracies also as points of percent from that of no compression."""
    header = ["compression", "kB up", "x smaller", "kB down", "accuracy %", "points", "loss", "s a round"]
    rows = []
    for name, f in figures.items():
        points = f"{100 * (f['accuracy'] - figures['none']['accuracy']):+.2f}" if "none" in figures else "-"
        rows.append(
            [
                name,
                f"{f['upload_bytes'] / 1e3:,.1f}",
                f"{f['float32_bytes'] / f['upload_bytes']:.1f}",
                f"{f['download_bytes'] / 1e3:,.1f}",
                f"{100 * f['accuracy']:.2f}",
                points,
                f"{f['loss']:.4f}",
                f"{f['seconds']:.2f}",
            ]
        )
    return report.table(header, rows)


def plot(figures: dict[str, dict[str, float]], directory: str) -> str:
    """Draws accuracy over bytes; returns the picture's path."""
    import matplotlib

    matplotlib.use("Agg")  # no screen needed
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, f in figures.items():
        axes.plot(f["upload_bytes"], 100 * f["accuracy"], "o")
        axes.annotate(
            name, (f["upload_bytes"], 100 * f["accuracy"]), textcoords="offset points", xytext=(4, 4), fontsize=8
        )
    axes.set(xscale="log", xlabel="bytes a client sends a round", ylabel="accuracy on held-out clients, %")
    axes.grid(alpha=0.3)
    path = os.path.join(directory, "compression.png")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _slug(name):
    return "".join(c if c.isalnum() else "_" for c in name)


if __name__ == "__main__":
    main()
