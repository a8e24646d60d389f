"""Numbers and labels as people write them in tables."""

import re

import pandas as pd
import pytest

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.overview import overview
from tff_tx.datasets.readers import units
from tff_tx.datasets.sources import open_source


@pytest.mark.parametrize(
    ("written", "number"),
    [("3,5", 3.5), ("-0,125", -0.125), ("1234,567", 1234.567), ("1,23", 1.23), ("1,234", None), ("1.234,5", 1234.5)]
    + [("-1,234.50", -1234.5), ("1.234.567", 1234567.0), ("1,234,567.8", 1234567.8), ("1'234.5", 1234.5)]
    + [("1\xa0234,5", 1234.5), ("$1,234.00", 1234.0), ("-$5.50", -5.5), ("12,5 %", 12.5), ("1.234,00 €", 1234.0)]
    + [("$1,234", None), ("12.34.5", None), ("1,23,456", None), ("5 cups", None), ("5 kg", 5.0), ("1.234,567,8", None)],
)
def test_numbers_are_read_as_tables_write_them_unless_a_comma_may_group_thousands(tmp_path, written, number):
    (tmp_path / "x.csv").write_text(f'size;label\n"{written}";a\n')
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),), numeric_columns=("size",))
    read = open_source(spec).pools["train"](frozenset({"numbers"}))
    if number is None:
        with pytest.raises(UserError, match=re.escape(f"the column 'size' has '{written}', which is no finite number")):
            list(read)
    else:
        assert list(read)[0]["numbers"].tolist() == [[number]]


@pytest.mark.parametrize("other", ["1.234.567", "1.234,50 €", "3,5"])
def test_a_point_that_groups_thousands_in_other_rows_is_no_decimal_one(tmp_path, other):
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),), numeric_columns=("size",))
    for column in (["12.345", other], [other, "999", "12.345 €"]):
        (tmp_path / "x.csv").write_text("size;label\n" + "".join(f'"{value}";a\n' for value in column))
        with pytest.raises(UserError, match=r"line \d: the column 'size' has '12.345.*', whose point may group"):
            list(open_source(spec).pools["train"](frozenset({"numbers"})))
    (tmp_path / "x.csv").write_text('size;label\n12.345;a\n"1,234.50";a\n1.5;a\n')
    (found,) = open_source(spec).pools["train"](frozenset({"numbers"}))
    assert found["numbers"].tolist() == [[12.345], [1234.5], [1.5]]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["yes", "Yes ", " no", "NO", "no"], "yes,no"),
        (["1", "1.0", "0.0", "0", "2.0"], "0,1,2.0"),
        (["a", "A", "b"], None),
        (["1.1", "1.10"], None),
    ],
)
def test_spellings_of_one_label_are_no_labels(tmp_path, labels, names):
    pd.DataFrame({"text": "x", "label": labels}).to_csv(tmp_path / "x.csv", index=False)
    files = {"files": (str(tmp_path / "x.csv"),), "cache_dir": str(tmp_path)}
    if names is None:
        assert set(datasets.label_names(DataSpec("file", **files))) == set(labels)
        return
    with pytest.raises(UserError, match=rf"^data\.label_column=label: .* in data\.label_names=({names}|no,yes), or"):
        datasets.label_names(DataSpec("file", **files))
    with pytest.raises(UserError, match=r" matched, a line each in a data\.label_file, or correct them\.$"):
        datasets.distinct_label_names({"no, thanks", "No, thanks", "yes"}, False, "label")
    number_of = datasets.label_lookup(names.split(","))
    numbers = [number_of(label.strip()) for label in labels]
    assert None not in numbers
    assert len(set(numbers)) == len(names.split(","))


UNITS = [
    ("99 kg", "1,5 kg"),
    ("1.234,50 EUR", "3 EUR"),
    ("EUR 1,234.50", "EUR 12"),
    ("12%", "3.5 %"),
    ("1 year", "2 years"),
]


@pytest.mark.parametrize(("one", "other"), UNITS)
def test_numbers_of_one_unit_are_numbers(tmp_path, one, other):
    numbers = {"99 kg": 99, "1,5 kg": 1.5, "3 EUR": 3, "EUR 12": 12, "12%": 12, "3.5 %": 3.5, "1 year": 1, "2 years": 2}
    expected = [numbers.get(value, 1234.5) for value in (one, other)]
    (tmp_path / "x.csv").write_text(f'size;label\n"{one}";a\n"{other}";a\n')
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),), numeric_columns=("size",))
    (found,) = open_source(spec).pools["train"](frozenset({"numbers"}))
    assert found["numbers"].tolist() == [[number] for number in expected]
    (tmp_path / "x.csv").write_text("size;label\n" + "".join(f"{n / 2} {units.unit(one)};a\n" for n in range(60)))
    column = overview(spec).columns[0]
    assert (column.kind, column.unit) == ("number", units.unit(one))


@pytest.mark.parametrize("other", ["500 g", "500", "5 €"])
def test_numbers_of_several_units_are_none(tmp_path, other):
    """Also where they are far from each other; what is no unit, and a name with a number in it, is none."""
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),), numeric_columns=("size",))
    for between in (0, 2500):
        (tmp_path / "x.csv").write_text("size\n" + "99 kg\n" * (between + 1) + f"{other}\n")
        with pytest.raises(UserError, match=rf"line {between + 3}: the column 'size' has '{other}' and '99 kg'"):
            list(open_source(spec).pools["train"](frozenset({"numbers"})))
    assert not any(
        map(units.is_quantity, ["12 May", "1A", "3rd", "A 12", "EUR", "kg 3", "EUR 3 kg", "2024-01-02", "1-2 h"])
    )
