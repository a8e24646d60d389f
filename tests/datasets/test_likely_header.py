"""Whether first lines are records or names, on tables as public data sets have them."""

import pytest

from tff_tx.datasets import DataSpec, overview
from tff_tx.datasets.likely_header import is_record

RECORDS = {
    "sentiment140": ("0", "1467810369", "Mon Apr 06 22:19:45 PDT 2009", "NO_QUERY", "someone{n}", "a text, of {n}"),
    "adult": ("1{n}", "State-gov", "77516", "13", "Male"),
    "MovieLens": ("9{n}", "242", "3", "881250949"),
    "spam": ("ham", "a text of {n}"),
    "CoLA": ("gj04", "1", "", "our friends will not buy {n}"),
}
NAMES = {
    "wide series": (("1990", "1991", "1992", "1993"), ("3", "5", "2", "9")),
    "pixels": (("0", "1", "2", "3"), ("0", "0", "255", "7")),
    "texts": (("label", "text"), ("ham", "a text of {n}")),
    "texts alone": (("sentence", "translation"), ("a text of {n}", "un texte de {n}")),
    "numbers": (("a", "b", "5"), ("1", "2", "3")),
    "a year among names": (("country", "2020"), ("land {n}", "3.5")),
}


def overview_of(tmp_path, lines):
    path = tmp_path / "x.tsv"
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    return overview.overview(DataSpec("file", files=(str(path),)))


def rows(row):
    """Twenty, with other numbers where there is an {n}."""
    return [[value.format(n=n) for value in row] for n in range(20)]


@pytest.mark.parametrize("name", RECORDS)
def test_values_such_as_those_below_are_a_record(tmp_path, name):
    assert is_record(overview_of(tmp_path, rows(RECORDS[name])))


@pytest.mark.parametrize("name", NAMES)
def test_names_and_numbers_that_grow_are_none(tmp_path, name):
    header, row = NAMES[name]
    assert not is_record(overview_of(tmp_path, [header, *rows(row)]))
