"""Plots, drawn without a screen; names of users' are drawn with `parse_math=False`, as they may have dollars."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from tff_tx.core.errors import UserError, setting

FORMATS = (".png", ".pdf", ".svg")


def pyplot() -> Any:
    """`matplotlib.pyplot`, which is slow to import; without a screen, unless one is in use already."""
    import matplotlib

    if "matplotlib.pyplot" not in sys.modules and "MPLBACKEND" not in os.environ:
        matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def subplots(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure of so many inches, and its axes, [columns]; room for figures and a line of text is left and below.

    Every run draws some: to find out how much room there must be takes as long as to draw them.
    """
    room = {"left": 0.95 / width, "right": 1 - 0.15 / width, "bottom": 0.5 / height, "top": 1 - 0.25 / height}
    figure, axes = pyplot().subplots(1, columns, figsize=(width, height), squeeze=False)
    figure.subplots_adjust(**room, wspace=0.3)
    return figure, axes[0]


def save(figure: Any, path: str) -> str:
    """Writes a figure and closes it; returns the path."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Creating legend")  # that it takes long, which depends on what else runs
        figure.savefig(path, dpi=120)
    pyplot().close(figure)
    return path


def check_path(path: str | None, name: str) -> None:
    """Checks that a plot, if there is one, can be written: format and directory of the value of the setting `name`."""
    if path is None:
        return
    if not path.endswith(FORMATS):
        raise UserError(f"{setting(name)}={path}: must end with {', '.join(FORMATS)}.")
    directory = os.path.dirname(os.path.abspath(path))
    if not os.access(directory, os.W_OK):
        raise UserError(f"{setting(name)}={path}: cannot write to {directory}; choose another directory.")
