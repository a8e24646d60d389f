"""What `%%tff --out` brings back is what it was."""

import sys

import numpy as np
import pandas as pd
import pytest

from tests.notebooks.hosts import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))
from tff_cells import values  # noqa: E402

FRAME = pd.DataFrame(
    {
        "count": pd.array([1, None], dtype="Int64"),
        "share": [0.1, np.nan],
        "when": pd.to_datetime(["2026-01-01", None]),
        "zone": pd.to_datetime(["2026-01-01", "2026-02-01"]).tz_localize("UTC"),
        "kind": pd.Categorical(["a", "b"]),
        "text": ["ä\n\"'\\", "😀"],
        "flag": [True, False],
    },
    index=pd.Index(["x", "y"], name="client"),
)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 1 / 3, float("inf"), "ß\u2028", [1, [2.5]], {"a": {"b": None}}, np.float64(0.1), np.int32(7)],
)
def test_plain_values_come_back(value):
    assert values.load(values.dump(value)) == value


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "U3"])
def test_arrays_come_back(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = values.load(values.dump(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.iloc[:0].drop(columns="kind"),  # whose categories are those that it has
        FRAME.drop(columns=FRAME.columns),
        FRAME.rename(columns={"share": "count"}),
        FRAME.set_index("text", append=True),
        FRAME[["share", "flag"]].set_axis(pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), axis=1),
        pd.DataFrame({0: np.float32([0.1, 0.2])}),
    ],
    ids=["types", "empty", "no columns", "same names", "two levels", "two levels of names", "float32"],
)
def test_tables_come_back(frame):
    pd.testing.assert_frame_equal(values.load(values.dump(frame)), frame)


def test_a_series_comes_back():
    pd.testing.assert_series_equal(values.load(values.dump(FRAME["share"])), FRAME["share"])


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), [object()], 1j])
def test_other_values_do_not(value):
    with pytest.raises(TypeError, match="is not a number, text"):
        values.dump(value)
