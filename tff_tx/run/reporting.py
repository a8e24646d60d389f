"""`report.md` and `report.html`: what a run did, for someone who was not there."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tff_tx import models, tasks
from tff_tx.config import FIELDS, RunConfig, laws, show, without_effect
from tff_tx.core import files, plots
from tff_tx.core.text import markdown
from tff_tx.run import html_report
from tff_tx.run.directory import StoredRun, read_metrics, writing

REPORT, HTML = "report.md", "report.html"

_ADDED = "Of the model after round "


def write_report(
    run: StoredRun, results: Mapping[str, Any], metrics: Sequence[models.Metric], privacy: str | None = None
) -> str:
    """Writes `report.md` of a run with `metrics.csv`, and its plots; returns its path. What `add_section` added stays.

    `results` are final figures by split and metric, and `privacy` is a section in Markdown on the guarantee.
    """
    rows = read_metrics(run.directory)
    directory = os.path.join(run.directory, "plots")
    os.makedirs(directory, exist_ok=True)
    images = [os.path.basename(p) for m in metrics if m.plotted and (p := _plot(rows, m, directory))]
    parts = [
        f"# {tasks.task_kind(run.config.task.kind).title} on {run.config.data.dataset}",
        summary(rows, run),
        *map(markdown, run.facts.get("notes", ())),
        "## Settings",
        "Those that differ from the defaults.",
        _settings(run.config),
        "## Results",
        *tables(results, metrics),
        *([] if laws.is_private(run.config) else harm(rows)),
        *([privacy] if privacy else []),
        "## Training",
        *(f"![{name}](plots/{name})" for name in images),
        "## Cost",
        _cost(rows),
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in run.facts["versions"].items()),
    ]
    return _write(run.directory, [*parts, *filter(_is_added, _sections(run.directory))])


def _settings(config: RunConfig) -> str:
    """A table of the settings that are not at their defaults and have an effect."""
    lines = ["| setting | value | default |", "|---|---|---|"]
    for path, value in config.changed().items():
        if path not in without_effect(config):
            shown = (markdown(show(one)) if one not in (None, (), "") else "" for one in (value, FIELDS[path].default))
            lines.append(f"| {path} | {' | '.join(shown)} |")
    return "\n".join(lines)


def write_section(run_dir: str, title: str, text: str) -> str:
    """Puts a section into `report.md`, in place of an earlier one of the same title; returns the path.

    It stands at the end, but before sections of `add_section`.
    """
    others = [section for section in _sections(run_dir) if not section.startswith(f"## {title}\n")]
    return _write(run_dir, sorted([*others, f"## {title}\n\n{text}"], key=_is_added))


def add_section(run_dir: str, title: str, text: str) -> str:
    """Adds a section to the report of a trained run, which says what it is of and outlasts further training.

    Raises:
      UserError: If another process writes the run directory, or its `metrics.csv` is missing.
    """
    with writing(run_dir):
        rounds = read_metrics(run_dir)["round_num"].iloc[-1]
        return write_section(run_dir, title, f"{_ADDED}{rounds}.\n\n{text}")


def _sections(run_dir):
    path = pathlib.Path(run_dir, REPORT)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [section.strip() for section in re.split(r"(?m)^(?=## )", text) if section.strip()]


def _is_added(section):
    return re.match(rf"## .*\n\n{_ADDED}\d+\.\n", section) is not None


def _write(run_dir, sections):
    path, text = os.path.join(run_dir, REPORT), "\n\n".join(sections) + "\n"
    with files.atomic(path) as file:
        file.write(text)
    with files.atomic(os.path.join(run_dir, HTML)) as file:
        file.write(html_report.page(text, run_dir))
    return path


def summary(rows: pd.DataFrame, run: StoredRun) -> str:
    """A sentence on rounds, clients and parameters of a run with these rows of `metrics.csv`."""
    clients, parameters = run.facts["clients"], run.facts["parameters"]
    cohort = run.config.cohort.clients_per_round
    if "clients/sampled" in rows:
        cohort = int(rows["clients/sampled"].iloc[-1])
    return (
        f"{len(rows)} rounds of {run.config.algorithm.name} with {cohort} of {clients['train']} clients each; "
        f"{parameters['trainable']:,} trainable and {parameters['non_trainable']:,} frozen parameters."
    )


def harm(rows: pd.DataFrame) -> list[str]:
    """A sentence on whom personalization hurts, by the last evaluation of clients' own models; none without them."""
    found = rows.get("eval/share_hurt", pd.Series(dtype=float)).dropna()
    if not len(found):
        return []
    return [
        f"Personalization hurts {found.iloc[-1]:.0%} of clients here: their own model is worse than the global model "
        "on their held-out records. `programs.evaluate` says which, and compares with training alone."
    ]


def tables(results: Mapping[str, Any], metrics: Sequence[models.Metric]) -> list[str]:
    """Tables in Markdown of final figures by split and metric."""
    formats = {metric.name: metric.format for metric in metrics}
    return [_table(split, figures, formats) for split, figures in results.items()]


def _table(split, figures, formats):
    lines = [f"| {split} | |", "|---|---|"]
    for name, value in figures.items():
        shown = format(value, formats.get(name, ".4f" if isinstance(value, float) else ","))
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def _cost(rows):
    if "time/round_seconds" not in rows:
        return "Withheld: what rounds cost depends on the clients in them."
    seconds = rows["time/round_seconds"]
    upload, download = rows["comm/upload_bytes_per_client"].ffill().fillna(0), rows["comm/download_bytes_per_client"]
    total = float(((upload + download) * rows["clients/sampled"]).sum())
    speed = ""
    if "train/num_examples" in rows:
        speed = f", {rows['train/num_examples'].sum() / seconds.sum():.0f} examples a second"
    return (
        f"{seconds.sum():.0f} s in rounds, {seconds.median():.2f} s a round in the median{speed}. A real federation "
        f"would have moved {total / 1e6:,.0f} MB: {upload.iloc[-1] / 1e6:.2f} MB up and "
        f"{download.iloc[-1] / 1e6:.2f} MB down, a client and round."
    )


def plot_spread(by_client: pd.DataFrame, metrics: Sequence[models.Metric], path: str) -> str:
    """Draws a histogram over clients for each metric, a column of `by_client`; returns the path of the picture."""
    shown = [metric for metric in metrics if metric.plotted and metric.name in by_client]
    figure, axes = plots.subplots(3.5 * len(shown), 3, len(shown))
    for metric, axis in zip(shown, axes):
        values = by_client[metric.name].astype(float)
        finite = values[np.isfinite(values)]
        axis.stairs(*np.histogram(finite, bins=20), fill=True)  # one shape, where `hist` draws twenty
        axis.axvline(finite.mean(), color="black", linestyle="--", label="mean")
        left_out = f" ({len(values) - len(finite):,} clients not finite)" if len(finite) < len(values) else ""
        axis.set(xlabel=metric.title + left_out)
    axes[0].set(ylabel="clients")
    axes[0].legend(loc="upper right")
    return plots.save(figure, path)


def plot_values(values: pd.DataFrame, what: str, path: str, most: int = 40) -> str:
    """Draws the values of clients, rows in order, as bars with two standard errors to either side; returns the path.

    Of more clients than `most` the upper and the lower half of so many are drawn.
    """
    shown = values if len(values) <= most else pd.concat([values.head(most // 2), values.tail(most // 2)])
    figure, axes = plots.pyplot().subplots(figsize=(7, 1 + 0.22 * len(shown)), layout="constrained")
    axes.barh(range(len(shown)), shown["value"], xerr=2 * shown["standard_error"].fillna(0))
    axes.set_yticks(range(len(shown)), shown.index, fontsize="small", parse_math=False)
    axes.set(xlabel=what)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    return plots.save(figure, path)


def _plot(rows, metric, directory):
    # Several models have train/MODEL/NAME and eval/MODEL/NAME.
    columns = [c for c in rows if c.startswith(("train/", "eval/")) and c.endswith(f"/{metric.name}")]
    if not columns:
        return None
    figure, (axes,) = plots.subplots(6, 3.5)
    for column in columns:
        style = "-" if column.startswith("train/") else "o-"
        points = rows[["round_num", column]].dropna()
        axes.plot(points["round_num"], points[column], style, label=column, markersize=3)
    axes.set(xlabel="round", ylabel=metric.title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    return plots.save(figure, os.path.join(directory, f"{metric.name}.png"))
