"""`report.md`: what a run did, for someone who was not there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tff_tx.core import plots
from tff_tx.run.directory import METRICS

REPORT = "report.md"

_TITLES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "perplexity": "Perplexity",
    "bits_per_token": "Bits per token",
    "f1": "F1",
    "exact_match": "Exact match",
    "rouge_l": "ROUGE-L",
    "text_f1": "F1 of words",
    "hr_at_10": "Hit rate at 10",
    "ndcg_at_10": "NDCG at 10",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
}


def write_report(
    run_dir: str, config: Mapping[str, Any], results: Mapping[str, Any], privacy: str | None = None
) -> str:
    """Writes `report.md` and its plots.

    Args:
      run_dir: A directory with `metrics.csv`.
      config: As in `config.json`.
      results: Final figures by split and metric.
      privacy: What a private run guarantees, a section in Markdown.

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
        *([privacy] if privacy else []),
        "## Training",
        *(f"![{os.path.basename(p)}](plots/{os.path.basename(p)})" for p in images if p),
        "## Cost",
        _cost(rows),
        "## How it was run",
        "```json\n" + json.dumps({"flags": _set_flags(config), "versions": config["versions"]}, indent=2) + "\n```",
    ]
    return _write(run_dir, "\n\n".join(parts) + "\n")


def write_section(run_dir: str, title: str, text: str) -> str:
    """Puts a section at the end of `report.md`, in place of an earlier one of the same title.

    Args:
      run_dir: A directory of a run; without a report, one is begun.
      title: The heading.
      text: What is below it, without headings of its own.

    Returns:
      The path of the report.
    """
    path = os.path.join(run_dir, REPORT)
    before = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = file.read()
    sections = [s for s in re.split(r"(?m)^(?=## )", before) if not s.startswith(f"## {title}\n")]
    return _write(run_dir, "".join(sections).rstrip() + f"\n\n## {title}\n\n{text}\n")


def _write(run_dir, text):
    path = os.path.join(run_dir, REPORT)
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
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
    speed = ""
    if "train/num_examples" in rows:
        speed = f", {rows['train/num_examples'].sum() / seconds.sum():.0f} examples a second"
    return (
        f"{seconds.sum():.0f} s in rounds, {seconds.median():.2f} s a round in the median{speed}. A real federation "
        f"would have moved "
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
    figure, axes = plots.pyplot().subplots(
        1, len(names), figsize=(3.5 * len(names), 3), layout="constrained", squeeze=False
    )
    for name, axis in zip(names, axes[0]):
        axis.hist(by_client[name], bins=20)
        axis.axvline(by_client[name].mean(), color="black", linestyle="--", label="mean")
        axis.set(xlabel=_TITLES[name], ylabel="clients")
        axis.legend()
    return plots.save(figure, path)


def plot_values(values: pd.DataFrame, what: str, path: str, most: int = 40) -> str:
    """Draws the values of clients as bars, the most valuable on top.

    Args:
      values: A row a client, in order, with `value` and `standard_error`, drawn twice to either side.
      what: Names the value.
      path: The picture to write.
      most: Of more clients the upper and the lower half of so many are drawn.

    Returns:
      `path`.
    """
    shown = values if len(values) <= most else pd.concat([values.head(most // 2), values.tail(most // 2)])
    figure, axes = plots.pyplot().subplots(figsize=(7, 1 + 0.22 * len(shown)), layout="constrained")
    axes.barh(range(len(shown)), shown["value"], xerr=2 * shown["standard_error"].fillna(0))
    axes.set_yticks(range(len(shown)), shown.index, fontsize="small")
    axes.set(xlabel=what)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    return plots.save(figure, path)


def _plot(rows, name, title, directory):
    # Several models have train/MODEL/NAME and eval/MODEL/NAME.
    columns = [c for c in rows if c.startswith(("train/", "eval/")) and c.endswith(f"/{name}")]
    if not columns:
        return None
    figure, axes = plots.pyplot().subplots(figsize=(6, 3.5), layout="constrained")
    for column in columns:
        style = "-" if column.startswith("train/") else "o-"
        points = rows[["round_num", column]].dropna()
        axes.plot(points["round_num"], points[column], style, label=column, markersize=3)
    axes.set(xlabel="round", ylabel=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return plots.save(figure, os.path.join(directory, f"{name}.png"))
