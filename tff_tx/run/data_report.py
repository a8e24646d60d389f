"""A data set in numbers: clients, examples, labels and lengths of every split."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import numpy as np

from tff_tx.config import RunConfig, flag_of, show
from tff_tx.config.registries import TASKS
from tff_tx.config.tools import DataReportConfig
from tff_tx.core import plots
from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import printable
from tff_tx.datasets.likely_header import are_values, evident_value, is_record
from tff_tx.datasets.likely_series import steps_in_columns
from tff_tx.datasets.likely_task import label_note, likely_task, one_hot_note, time_notes
from tff_tx.datasets.overview import Overview, overview
from tff_tx.datasets.readers.delimited import RepeatedName
from tff_tx.datasets.readers.files import format_name
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.statistics import SplitStatistics, Statistics, describe
from tff_tx.datasets.survey_pass import survey

_QUANTILES = (("min", 0), ("10%", 10), ("median", 50), ("90%", 90), ("max", 100))
_MOST_LABELS = 30
_MOST_COLUMNS = 40


def data_report(config: RunConfig, settings: DataReportConfig) -> Iterator[str]:
    """The distribution of examples, labels and lengths over clients, as tables; and as a plot, if one is named.

    Yields:
      Sections, also those before a mistake.

    Raises:
      UserError: If the data cannot be read, or the plot not be written.
    """
    plots.check_path(settings.plot, "report.plot")
    found = []
    try:
        for section in _sections(config, settings):
            found.append(section)
    except UserError as error:
        if skipped := _skipping(config, settings):
            yield from (*skipped, f"Unless rows are skipped, training ends with: {error.describe(flag_of)}")
            return
        yield from found
        raise
    yield from found


def _skipping(config: RunConfig, settings: DataReportConfig) -> list[str]:
    """The report without bad rows; empty if there are none, or other mistakes."""
    skipping = config.replace({"data.on_bad_rows": "skip"})
    if config.data.dataset != "file" or config == skipping:
        return []
    try:
        found = list(_sections(skipping, settings))
        pools = survey(DataSpec.of(skipping)).pools.values()
    except UserError:
        return []
    # Rows in another encoding are not to be left out, but to be read in it.
    told = [message for pool in pools for message in pool.first_left_out]
    return [] if not told or any("is not UTF-8" in message for message in told) else found


def _sections(config: RunConfig, settings: DataReportConfig) -> Iterator[str]:
    count, likely = _token_counter(settings.tokenizer), {}
    given, (config, columns) = config, _first_records(config)
    spec, has_none = DataSpec.of(config), config != given
    has_header = columns is not None and format_name(spec) in ("csv", "tsv") and not spec.columns
    found = survey(spec).having(("label", "labels", "tags"))
    title = " ".join([spec.dataset, *map(os.path.basename, spec.files)])
    yield "\n".join([f"Data set: {title}", *_format_of(spec), *found.notes])
    if has_none:
        yield (
            "The first line is read as a record, as its values are such as those below: give names of columns with "
            f"{flag_of('data.columns')}, in place of {spec.columns[0]} and so on."
        )
    if columns is not None:
        yield _columns(columns, has_header)
        likely = likely_task(spec, columns, found.pools["train"].columns)
        separated = likely.get("data.label_separator") or spec.label_separator  # a value that is empty has no label
        if not separated and any(c.missing and c.name == likely.get("data.label_column") for c in columns.columns):
            likely["data.on_bad_rows"] = "skip"
    if _names_columns(config) or found.pools["train"].columns - {"client"}:
        statistics = describe(spec, count)
        yield table(statistics)
        if settings.plot:
            yield f"Plot: {draw(statistics, title, settings.plot)}"
    if config.task.kind is not None:
        from tff_tx.run.assemble.preview import preview

        yield "\n".join(preview(config, settings.tokenizer))
    elif columns is not None and not likely and (steps := steps_in_columns(columns)):
        yield (
            f"Each row is a series, and each of the {len(steps):,} columns {printable(steps[0])} to "
            f"{printable(steps[-1])} a step: forecasting reads a step a row; write the rows as columns and set "
            f"{flag_of('data.client_per_column')}, or a value a row, with a column that names the series."
        )
    elif likely:
        yield _command(config, likely)
        for note in filter(None, (label_note(spec, columns, likely), one_hot_note(columns, likely))):
            yield printable(note)
        if "data.time_column" in likely:
            yield (
                f"Records must be in the order of time, and {printable(likely['data.time_column'])} is not: they are "
                "sorted by it."
            )
        in_time = "in_time" in TASKS[likely["task.kind"]].capabilities and "data.label_column" not in likely
        if in_time and (notes := time_notes(spec, columns, likely)):
            yield "\n".join(map(printable, notes))


def _first_records(config: RunConfig) -> tuple[RunConfig, Overview | None]:
    """The first records; and the configuration, with names of columns if the first line is a record as well."""
    spec, repeated = DataSpec.of(config), None
    try:
        found = overview(spec)
        is_table = found is not None and format_name(spec) in ("csv", "tsv") and not spec.columns
        if not is_table or _names_columns(config) or not is_record(found):
            return config, found
        width = len(found.columns)
    except RepeatedName as error:
        if _names_columns(config):
            raise
        repeated, width = error, len(error.names)
    config = config.replace({"data.columns": tuple(f"column{n + 1}" for n in range(width))})
    found = overview(DataSpec.of(config))
    if repeated is not None and not are_values(repeated.names, found):
        raise repeated
    return config, found


def _names_columns(config: RunConfig) -> bool:
    """Whether settings name columns, which must then be there."""
    return any(path.endswith(("_column", "_columns")) for path in config.changed())


def _format_of(spec: DataSpec) -> list[str]:
    return [f"Format: {format_name(spec)}"] if spec.dataset == "file" else []


def _columns(found: Overview, has_header: bool) -> str:
    rows = [["column", "kind", "missing", "different", "for example"]]
    for column in found.columns[:_MOST_COLUMNS]:
        examples = printable(" | ".join(column.examples))
        rows.append([printable(column.name), column.kind, str(column.missing), str(column.distinct), examples])
    more = len(found.columns) - _MOST_COLUMNS
    lines = [_aligned(rows), *([f"... and {more} more columns"] if more > 0 else [])]
    lines.append(f"Of the first {found.num_rows:,} rows, {found.duplicates:,} repeat an earlier one.")
    for column in found.columns:
        if column.unit:
            lines.append(f"{printable(column.name)} has numbers with the unit {printable(column.unit)}.")
        if column.doubt:
            lines.append(printable(f"{column.name} {column.doubt}."))
        if column.code is not None:
            lines.append(
                f"{printable(column.name)} has {column.code} in several rows, apart from all its other numbers: if it "
                "says that there is none, leave the value empty."
            )
    if has_header and (name := evident_value(found)):
        lines.append(
            f"A column is called {printable(name)}: if the first line is no header, name the columns with "
            f"{flag_of('data.columns')}."
        )
    return "\n".join(lines)


def _command(config: RunConfig, likely: Mapping[str, Any]) -> str:
    """The command line of the likely task."""
    settings = {**config.changed(), **likely}
    if architecture := TASKS[likely["task.kind"]].architecture:
        settings["model.architecture"] = architecture
    else:
        settings["model.pretrained"] = "MODEL"
    flags = [shlex.quote(f"{flag_of(path)}={show(value)}") for path, value in settings.items()]
    title = f"Likely task: {likely['task.kind']}; correct what is not meant, and show what it makes of the data with"
    return f"{title} programs.data\n  python -m programs.train {' '.join(flags)}"


def _token_counter(tokenizer: str) -> Callable[[Sequence[str]], Sequence[int]]:
    if tokenizer == "whitespace":
        return lambda texts: [len(text.split()) for text in texts]
    if tokenizer == "bytes":
        return lambda texts: [len(text.encode()) for text in texts]
    import transformers

    try:
        loaded = transformers.AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{setting('report.tokenizer')}={tokenizer}: must be whitespace, bytes, a directory with a tokenizer, or a "
            "hub id that can be downloaded."
        ) from error

    def count(texts: Sequence[str]) -> list[int]:
        encoded = loaded(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [len(ids) for ids in encoded]

    return count


def table(statistics: Statistics) -> str:
    """The statistics as text."""
    sections = [_sizes(statistics)]
    for name, split in statistics.splits.items():
        if split.labels is not None:
            sections.append(_labels(name, split, statistics.label_names))
    return "\n\n".join(sections)


def _sizes(statistics):
    rows = [["split", "clients", "total", "", *(name for name, _ in _QUANTILES)]]
    for name, split in statistics.splits.items():
        measures = (
            ("records per client", split.records),
            ("tokens per client", split.tokens),
            ("tokens per record", split.lengths),
        )
        for measure, values in measures:
            if values is not None:
                quantiles = [f"{np.percentile(values, q):.0f}" for _, q in _QUANTILES]
                rows.append([name, str(len(split.records)), str(values.sum()), measure, *quantiles])
    return _aligned(rows)


def _shares(split: SplitStatistics) -> np.ndarray:
    # A client's records may have no label at all.
    return split.labels / np.maximum(split.labels.sum(axis=1, keepdims=True), 1)


def _labels(name, split, names):
    rows = [[f"label ({name})", "count", "share", "over clients: 10%", "median", "90%"]]
    shares, total = _shares(split), split.labels.sum(axis=0)
    for number, label in list(enumerate(names))[:_MOST_LABELS]:
        spread = [f"{np.percentile(shares[:, number], q):.1%}" for q in (10, 50, 90)]
        rows.append([label, str(total[number]), f"{total[number] / total.sum():.1%}", *spread])
    more = len(names) - _MOST_LABELS
    return _aligned(rows) + (f"\n... and {more} more labels" if more > 0 else "")


def _aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0])
        lines.append("  ".join([first, *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]).rstrip())
    return "\n".join(lines)


def draw(statistics: Statistics, title: str, path: str) -> str:
    """Draws client sizes, labels (lines: 10th to 90th percentile over clients) and lengths; returns the path."""
    train = statistics.splits["train"]
    panels = [_draw_sizes]
    if train.labels is not None:
        panels.append(_draw_labels)
    if train.lengths is not None:
        panels.append(_draw_lengths)
    figure, axes = plots.pyplot().subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False)
    for panel, axis in zip(panels, axes[0]):
        panel(statistics, axis)
    figure.suptitle(title, parse_math=False)
    figure.tight_layout()
    return plots.save(figure, path)


def _draw_sizes(statistics: Statistics, axis: Any) -> None:
    for name, split in statistics.splits.items():
        sizes = split.records if split.tokens is None else split.tokens
        axis.plot(np.linspace(0, 100, len(sizes)), np.sort(sizes)[::-1], label=name)
    axis.set_yscale("symlog")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("clients, largest first (%)")
    axis.set_ylabel("records per client" if split.tokens is None else "tokens per client")
    axis.legend()


def _draw_labels(statistics: Statistics, axis: Any) -> None:
    train = statistics.splits["train"]
    overall = train.labels.sum(axis=0) / train.labels.sum()
    low, high = np.percentile(_shares(train), (10, 90), axis=0)
    shown = slice(None, _MOST_LABELS)
    positions = np.arange(len(overall))[shown]
    axis.bar(positions, overall[shown])
    axis.vlines(positions, low[shown], high[shown], color="black")
    axis.set_xticks(positions, statistics.label_names[shown], rotation=90, parse_math=False)
    axis.set_ylabel("share in training; lines: 10-90 % of clients")


def _draw_lengths(statistics: Statistics, axis: Any) -> None:
    for name, split in statistics.splits.items():
        axis.hist(split.lengths, bins=40, histtype="step", density=True, label=name)
    axis.set_xlabel("tokens per record")
    axis.legend()
