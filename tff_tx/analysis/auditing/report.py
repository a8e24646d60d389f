"""Table and plot of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.analysis.auditing.membership import Attack
from tff_tx.core import plots


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """A Markdown table of rows (audit, result, result without a leak)."""
    lines = ["| audit | result | without a leak |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def plot_audit(attacks: Mapping[str, Attack], exposures: Mapping[int, np.ndarray], path: str) -> str:
    """Plots ROC curves on logarithmic axes, which show few but sure recognitions, and exposure by repetitions.

    Args:
      attacks: By name.
      exposures: Bits by repetitions of a canary; empty if the run had none.
      path: The picture to write.

    Returns:
      `path`.
    """
    count = 1 + bool(exposures)
    figure, axes = plots.pyplot().subplots(1, count, figsize=(4.5 * count, 4), layout="constrained", squeeze=False)
    roc, low = axes[0][0], 1e-3
    for name, attack in attacks.items():
        false, true = attack.roc
        roc.plot(np.maximum(false, low), np.maximum(true, low), label=f"{name}, AUC {attack.auc:.3f}")
    roc.plot([low, 1], [low, 1], color="gray", linestyle="--", label="guessing")
    roc.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="true positive rate")
    roc.set(title="membership inference")
    roc.legend(fontsize=8)
    if exposures:
        axis: Any = axes[0][1]
        names = sorted(exposures)
        axis.boxplot([exposures[r] for r in names], labels=[str(r) for r in names])
        axis.set(xlabel="repetitions (0: not trained on)", ylabel="exposure (bits)", title="canaries")
    return plots.save(figure, path)
