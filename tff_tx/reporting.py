"""`report.md`: what a run did, for someone who was not there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tff_tx.run_directory import METRICS

_TITLES = {
    "loss": "Loss (nats)",
    "accuracy": "Accuracy",
    "perplexity": "Perplexity",
    "bits_per_token": "Bits per token",
    "f1": "Entity F1",
}


def write_report(run_dir: str, config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Writes `report.md` and its plots.

    Args:
      run_dir: A directory with `metrics.csv`.
      config: As in `config.json`.
      results: Final figures by split and metric.

    Returns:
      The path of the report.
    """
    rows = pd.read_csv(os.path.join(run_dir, METRICS))
    plots = os.path.join(run_dir, "plots")
    os.makedirs(plots, exist_ok=True)
    images = [_plot(rows, name, title, plots) for name, title in _TITLES.items()]
    parts = [
        f"# {config['task']['kind']} on {config['task']['data']['dataset']}",
        _summary(rows, config),
        "## Results",
        *(_table(split, figures) for split, figures in results.items()),
        "## Training",
        *(f"![{os.path.basename(p)}](plots/{os.path.basename(p)})" for p in images if p),
        "## Cost",
        _cost(rows),
        "## How it was run",
        "```json\n" + json.dumps({"flags": _set_flags(config), "versions": config["versions"]}, indent=2) + "\n```",
    ]
    path = os.path.join(run_dir, "report.md")
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts) + "\n")
    os.replace(f"{path}.tmp", path)
    return path


def _set_flags(config):
    return {name: value for name, value in config["flags"].items() if value not in (None, "", [])}


def _summary(rows, config):
    clients = config["clients"]
    return (
        f"{len(rows)} rounds of {config['flags']['algorithm']} with {int(rows['clients/sampled'].iloc[-1])} of "
        f"{clients['train']} clients each; {config['parameters']['trainable']:,} trainable and "
        f"{config['parameters']['non_trainable']:,} frozen parameters."
    )


def _table(split, figures):
    lines = [f"| {split} | |", "|---|---|"]
    for name, value in figures.items():
        told = f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


def _cost(rows):
    seconds = rows["time/round_seconds"]
    sent = rows["comm/upload_bytes_per_client"] + rows["comm/download_bytes_per_client"]
    total = float((sent * rows["clients/sampled"]).sum())
    return (
        f"{seconds.sum():.0f} s in rounds, {seconds.median():.2f} s a round in the median, "
        f"{rows['train/num_examples'].sum() / seconds.sum():.0f} examples a second. A real federation would have moved "
        f"{total / 1e6:,.0f} MB: {rows['comm/upload_bytes_per_client'].iloc[-1] / 1e6:.2f} MB up and "
        f"{rows['comm/download_bytes_per_client'].iloc[-1] / 1e6:.2f} MB down, a client and round."
    )


def plot_spread(by_client: pd.DataFrame, path: str) -> str:
    """Draws a histogram over clients for each metric.

    Args:
      by_client: A row a client, a column a metric.
      path: The picture to write.

    Returns:
      `path`.
    """
    names = [name for name in _TITLES if name in by_client]
    figure, axes = _pyplot().subplots(1, len(names), figsize=(3.5 * len(names), 3), layout="constrained", squeeze=False)
    for name, axis in zip(names, axes[0]):
        axis.hist(by_client[name], bins=20)
        axis.axvline(by_client[name].mean(), color="black", linestyle="--", label="mean")
        axis.set(xlabel=_TITLES[name], ylabel="clients")
        axis.legend()
    return _save(figure, path)


def _plot(rows, name, title, directory):
    columns = [c for c in (f"train/{name}", f"eval/{name}") if c in rows]
    if not columns:
        return None
    figure, axes = _pyplot().subplots(figsize=(6, 3.5), layout="constrained")
    for column, style in zip(columns, ("-", "o-")):
        points = rows[["round_num", column]].dropna()
        axes.plot(points["round_num"], points[column], style, label=column, markersize=3)
    axes.set(xlabel="round", ylabel=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return _save(figure, os.path.join(directory, f"{name}.png"))


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")  # no screen needed
    from matplotlib import pyplot

    return pyplot


def _save(figure, path):
    figure.savefig(path, dpi=120)
    _pyplot().close(figure)
    return path
