"""What settings of data forbid one another, and tables and silos the rest."""

from __future__ import annotations

import re

from tff_tx.config import laws
from tff_tx.config.conditions import Conflict, Law, Relation, Requires, belong, section


def _distinct(path) -> Law:
    return Law(lambda c: len(set(c.get(path))) < len(c.get(path)), f"{{{path}=}} has a name twice: name each once.")


DATA = (
    Requires("data.dataset=file", "data.files", "there is nothing else to train on"),
    *belong(
        "data.dataset=file",
        *section("data", "files", "validation_files", "test_files", "silos", "numeric_columns", "categorical_columns"),
        *section("data", "encoding", "delimiter", "on_bad_rows", "client_per_column", "time_column"),
    ),
    Law(
        lambda c: c.is_set("data.missing_numbers") and not (c.data.numeric_columns or c.data.client_per_column),
        "{data.missing_numbers=} has no effect without {data.numeric_columns} or {data.client_per_column}: set one.",
    ),
    Conflict("data.client_per_column", "data.client_column", "both say who the clients are"),
    Law(
        lambda c: not laws.is_encoding(c.data.encoding),
        "{data.encoding=}: must be an encoding that Python knows, such as utf-8, cp1252 or utf-16.",
    ),
    Law(
        lambda c: not (c.data.delimiter in (None, "tab", "\\t", "::") or re.fullmatch(r'[^"\r\n]', c.data.delimiter)),
        "{data.delimiter=}: must be one character other than a quote, tab, or ::.",
    ),
    *(
        Conflict(
            "data.silos",
            f"data.{part}_fraction",
            "held-out data would be taken from the silos, where nobody else reads them",
            f"remove it, and name held-out files of the coordinator in {{data.{part}_files}}",
        )
        for part in ("validation", "test")
    ),
    *(
        Law(
            lambda c, path=f"data.{part}_fraction": c.get(path) > 1 and c.get(path) % 1,
            f"{{data.{part}_fraction=}} must be a fraction between 0 and 1, or a whole number: give for instance 0.1.",
        )
        for part in ("validation", "test")
    ),
    Relation(("data.numeric_columns", "data.categorical_columns"), laws.columns_are_distinct),
    Law(
        lambda c: c.get("data.text_join") is not None and len(c.get("data.text_column")) < 2,
        "{data.text_join=} has no effect with one column in {data.text_column}: remove it.",
    ),
    Law(
        lambda c: c.get("data.text_join") == "pair" and len(c.get("data.text_column")) != 2,
        "{data.text_join=} needs two columns, not {data.text_column=}: name two, or join them otherwise.",
    ),
    *belong("data.split=time", "data.borders"),
    *(
        Law(
            lambda c, path=f"data.{part}_fraction": c.data.borders and c.is_set(path) and c.get(path),
            f"{{data.borders=}} and {{data.{part}_fraction=}} both say what is held out: remove one of them.",
        )
        for part in ("validation", "test")
    ),
    Law(
        lambda c: c.data.borders and (len(c.data.borders) != 3 or not c.data.borders[0]),
        "{data.borders=} must be three numbers of records, for training at least 1.",
    ),
    _distinct("data.label_names"),
    _distinct("data.label_columns"),
    Conflict("data.label_columns", "data.label_separator", "columns of 0 and 1 have nothing to separate"),
    Conflict("data.label_names", "data.label_file", "both name the labels"),
    Relation(("data.categories", "data.categorical_columns"), laws.categories_are_lists),
    _distinct("data.silos"),
)
"""Rules of the section `data` alone."""

TABLES = [
    Requires(
        "task.series_protocol=standardized",
        "data.split=time",
        "the deviations are those of the records of a client before",
    ),
    *belong("task.kind=forecasting", "task.series_protocol"),
    *(
        Conflict(
            "task.series_protocol=standardized", f"data.{part}_files", "the deviations are those of the same client"
        )
        for part in ("validation", "test")
    ),
    Requires("data.missing_numbers=last", "task.kind=forecasting", "other records come in no order of time"),
    Conflict(
        "data.missing_numbers=mean",
        "task.standardize=False",
        "means are known where columns are standardized",
        "refuse missing numbers, or standardize",
    ),
]

SILOS = [
    Law(
        lambda c: c.data.silos and c.engine.name != "federation" and c.engine.ray_address is None,
        "{data.silos=} needs {engine.ray_address}: the silos' nodes must have joined that cluster.",
    ),
    Conflict("data.silos", "canaries.number", "canaries are clients of no silo"),
]
