"""Figures of several repetitions as ratios, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from importlib import metadata

from benchmarks.processes import ROOT

RESULTS = os.path.join(ROOT, "benchmarks", "results")
"""Where JSON goes if no path is given."""

_PACKAGES = ("tensorflow", "tensorflow-federated", "transformers", "tf-keras", "numpy")


def parser(description: str, output: str) -> argparse.ArgumentParser:
    """The flags of a benchmark: where its JSON goes, and what the caller adds.

    Args:
      description: Of the benchmark.
      output: Said to be the default.
    """
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", help=f"where the JSON goes; default: {output}")
    return result


def spread(values: Iterable[float], digits: int = 2, scale: float = 1.0) -> str:
    """The median with the range, as `median (min-max)`."""
    values = [v * scale for v in values if v is not None]
    if not values:
        return "-"
    told = [f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values))]
    return told[0] if len(values) == 1 else f"{told[0]} ({told[1]}-{told[2]})"


def paired_ratios(numerators: Sequence[float | None], denominators: Sequence[float | None]) -> list[float]:
    """Ratios within each repetition, so that what slows the machine down for a while cancels.

    Repetitions in which either failed (None) are left out.
    """
    return [a / b for a, b in zip(numerators, denominators) if a is not None and b is not None]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned."""
    rows = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> dict:
    """What the figures depend on besides the code."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        # Anything much above 0 means that other programs took part.
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
    }


def write(name: str, content: dict, path: str | None = None) -> str:
    """Writes JSON; gives the path, which defaults to `RESULTS` and the name."""
    path = path or os.path.join(RESULTS, f"{name}.json")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".tmp", "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.replace(path + ".tmp", path)
    return path


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
