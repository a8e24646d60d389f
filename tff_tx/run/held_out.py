"""What a report shows of held-out clients: how metrics are spread over them, and which classes are confused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tff_tx import models
from tff_tx.core import plots
from tff_tx.core.text import markdown
from tff_tx.run import reporting
from tff_tx.run.evaluation import MOST_KNOWN, Evaluator, spread


def write_section(
    run_dir: str,
    split: str,
    evaluator: Evaluator,
    weights: Any,
    client_ids: Sequence[str],
    metrics: Sequence[models.Metric],
    label_names: Sequence[str] = (),
) -> None:
    """Puts a section on the clients of a split into the report, of as many as the evaluator has evaluated already.

    Args:
      run_dir: The run directory.
      split: The split.
      evaluator: What has evaluated it.
      weights: The trained `ModelWeights`.
      client_ids: Its clients.
      metrics: What is known of the metrics.
      label_names: Of the classes that `evaluator` counts.
    """
    shown = client_ids[:MOST_KNOWN]
    by_client, confusion = evaluator.details(weights, shown)
    names = {metric.name for metric in metrics if metric.plotted}
    plot = reporting.plot_spread(by_client, metrics, os.path.join(run_dir, "plots", f"{split}_clients.png"))
    first = "" if len(shown) == len(client_ids) else f"The first {len(shown):,} of {len(client_ids):,}. "
    parts = [
        f"{first}A metric's figures over the clients, each with its own held-out examples.",
        _table(spread(by_client, metrics).filter(items=names, axis=0)),
        f"![{split}]({os.path.relpath(plot, run_dir)})",
    ]
    if evaluator.classes and len(label_names) > 1:
        plot = plot_confusion(confusion, label_names, os.path.join(run_dir, "plots", f"{split}_confusion.png"))
        parts += [_most_confused(confusion, label_names), f"![confusion]({os.path.relpath(plot, run_dir)})"]
    reporting.write_section(run_dir, f"Clients of {split}", "\n\n".join(parts))


def _table(figures: pd.DataFrame) -> str:
    lines = [f"| | {' | '.join(figures)} |", "|---" * (1 + len(figures.columns)) + "|"]
    lines += [f"| {name} | {' | '.join(f'{value:.4g}' for value in row)} |" for name, row in figures.iterrows()]
    return "\n".join(lines)


def _most_confused(confusion, names) -> str:
    """A sentence on the pair of classes that is confused most often."""
    wrong = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    true, found = np.unravel_index(wrong.argmax(), wrong.shape)
    if not wrong[true, found]:
        return "No example was taken for one of another class."
    return (
        f"Confused most often: {wrong[true, found]:,} of {confusion[true].sum():,} examples of "
        f"{markdown(names[true])} were taken for {markdown(names[found])}."
    )


def plot_confusion(confusion: np.ndarray, names: Sequence[str], path: str) -> str:
    """Draws a confusion matrix, int [classes, classes] with a row a true class; returns the path of the picture."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.45 * len(names)
    figure, axes = plots.pyplot().subplots(figsize=(size, size), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        color = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize="small")
    short = [name if len(name) <= 20 else name[:19] + "…" for name in names]
    axes.set_xticks(range(len(names)), short, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), short, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    return plots.save(figure, path)
