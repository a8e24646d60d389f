"""Windows of series."""

import collections
import dataclasses

import numpy as np
import pandas as pd
import pytest
import sklearn.preprocessing
import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError
from tff_tx.datasets.sources import open_source


def write(path, series):
    """Records of several series, step by step in turns."""
    steps = range(max(map(len, series.values())))
    rows = [(name, values[t]) for t in steps for name, values in series.items() if t < len(values)]
    pd.DataFrame(rows, columns=["sensor", "speed"]).to_csv(path, index=False)


def load(path, cache_dir, context=3, horizon=2, **fields):
    spec = datasets.DataSpec(
        "file",
        files=(str(path),),
        **{"client_column": "sensor", "numeric_columns": ("speed",), "cache_dir": str(cache_dir), **fields},
    )
    return datasets.load(spec, datasets.ForecastingEncoder(context, horizon), progress=False)


def windows(clients, client_id):
    examples = clients.create_tf_dataset_for_client(client_id).as_numpy_iterator()
    return [[*e["past_values"], *e["future_values"]] for e in examples]


def test_windows_slide_by_one_step_and_end_at_the_split(tmp_path):
    a, b = np.arange(20.0), 100 + np.arange(10.0)
    write(tmp_path / "x.csv", {"a": a, "b": b})
    found = load(tmp_path / "x.csv", tmp_path, split="time", test_fraction=0.5)
    assert windows(found.train, "a") == [list(a[t : t + 5]) for t in range(6)]
    assert windows(found.test, "a") == [list(a[t : t + 5]) for t in range(10, 16)]
    assert windows(found.train, "b") == [list(b[:5])]
    assert windows(found.test, "b") == [list(b[5:])]


def test_windows_go_on_from_chunk_to_chunk(tmp_path):
    """More records than a chunk has."""
    values = np.arange(2500.0)
    write(tmp_path / "x.csv", {"a": values, "b": -values})
    found = load(tmp_path / "x.csv", tmp_path, split="client", test_fraction=1)
    (train,), (test,) = found.train.client_ids, found.test.client_ids
    sign = {"a": 1, "b": -1}
    assert windows(found.train, train) == [list(sign[train] * values[t : t + 5]) for t in range(2496)]
    assert len(windows(found.test, test)) == 2496


def test_each_column_is_a_series(tmp_path):
    (tmp_path / "x.csv").write_text("sensor,speed,flow\n" + "".join(f"a,{t},{10 * t}\n" for t in range(5)))
    found = load(tmp_path / "x.csv", tmp_path, numeric_columns=("speed", "flow"), test_fraction=0, split="time")
    assert windows(found.train, "a") == [[0, 1, 2, 3, 4], [0, 10, 20, 30, 40]]


def test_missing_numbers_are_the_last_before_and_are_not_forecast(tmp_path):
    """Beside pandas: over chunks, of several columns, and not before the first number."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=[2500, 2]).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = np.nan
    table[:7, 1] = np.nan
    frame = pd.DataFrame(table, columns=["speed", "flow"])
    frame.assign(sensor="a").to_csv(tmp_path / "x.csv", index=False, na_rep="NA")
    several = {"numeric_columns": ("speed", "flow"), "split": "time", "test_fraction": 0.5}
    with pytest.raises(UserError, match="the column 'speed' has"):
        load(tmp_path / "x.csv", tmp_path, **several)
    found = load(tmp_path / "x.csv", tmp_path, missing_numbers="last", **several)
    filled = frame.ffill().to_numpy()
    for split, start in ((found.train, 0), (found.test, 1250)):
        wanted = [[*filled[t : t + 3, k], *table[t + 3 : t + 5, k]] for t in range(start, start + 1246) for k in (0, 1)]
        wanted = [window for window in wanted if not np.isnan(window).any()]
        np.testing.assert_allclose(windows(split, "a"), wanted, rtol=1e-6)
        assert 1500 < len(wanted) < 2492


def test_deviations_are_of_the_numbers_that_are_there(tmp_path):
    table = pd.DataFrame({"speed": [np.nan, 5.0, np.nan, 7.0, 9.0, 8.0, 7.0, 3.0, 4.0, 5.0, 6.0, 7.0], "sensor": "a"})
    table.to_csv(tmp_path / "x.csv", index=False)
    spec = datasets.DataSpec(
        "file",
        files=(str(tmp_path / "x.csv"),),
        **{"client_column": "sensor", "numeric_columns": ("speed",), "cache_dir": str(tmp_path), "split": "time"},
        **{"test_fraction": 0, "borders": (8, 0, 4), "missing_numbers": "last"},
    )
    found = datasets.load(spec, datasets.ForecastingEncoder(3, 2, standardizes=True), progress=False)
    examples = [*found.train.create_tf_dataset_for_client("a").as_numpy_iterator()]
    assert [list(e["past_values"]) for e in examples] == [[5, 5, 7], [5, 7, 9], [7, 9, 8]]
    np.testing.assert_allclose([e["deviation"] for e in examples], table["speed"][:8].std(ddof=0), rtol=1e-6)


def test_the_fields_protocol(tmp_path):
    """Borders, windows that look back, and deviations of the training part, beside scikit-learn's scaler."""
    rng = np.random.default_rng(5)
    table = 50 + rng.normal(size=[30, 2]) * [3, 0.1] + np.arange(30)[:, None]
    pd.DataFrame({"a": table[:, 0], "b": table[:, 1], "sensor": "s"}).to_csv(tmp_path / "x.csv", index=False)
    spec = datasets.DataSpec(
        "file",
        files=(str(tmp_path / "x.csv"),),
        **{"client_column": "sensor", "numeric_columns": ("a", "b"), "cache_dir": str(tmp_path)},
        **{"split": "time", "test_fraction": 0, "borders": (12, 6, 6)},
    )
    found = datasets.load(spec, datasets.ForecastingEncoder(3, 2, standardizes=True), progress=False)
    ranges = {"train": (0, 12), "validation": (12 - 3, 18), "test": (18 - 3, 24)}
    for name, (start, end) in ranges.items():
        wanted = [table[t : t + 5, k] for t in range(start, end - 4) for k in (0, 1)]
        np.testing.assert_allclose(windows(getattr(found, name), "s"), wanted, rtol=1e-6)
    scaler = sklearn.preprocessing.StandardScaler().fit(table[:12])
    examples = list(found.test.create_tf_dataset_for_client("s").as_numpy_iterator())
    deviations = np.array([e["deviation"] for e in examples])
    np.testing.assert_allclose(deviations, np.tile(scaler.scale_, len(deviations) // 2), rtol=1e-5)
    labels = np.array([[e["deviation"], e["past_values"][-1], *e["future_values"]] for e in examples], np.float32)
    objective = models.forecasting([2], standardized=True)
    initialize, update, finalize = objective.metrics_fns
    predictions = labels[:, 2:] + rng.normal(size=[len(labels), 2]).astype(np.float32)
    output = collections.namedtuple("Output", "predictions loss")(tf.constant(predictions), tf.constant(0.0))
    figures = {k: float(v) for k, v in finalize(update(initialize(), tf.constant(labels), output)).items()}
    errors = (predictions - labels[:, 2:]) / deviations[:, None]
    assert figures["mse"] == pytest.approx(np.square(errors).mean(), rel=1e-4)
    assert figures["loss"] == figures["mse"]
    assert figures["standardized_mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert figures["mae"] == pytest.approx(np.abs(predictions - labels[:, 2:]).mean(), rel=1e-4)
    loss = objective.loss_fn(tf.constant(predictions), tf.constant(labels))
    assert float(loss) == pytest.approx(figures["mse"], rel=1e-4)
    with pytest.raises(UserError, match="data.borders=25,5,5 leave nothing to test on, as the largest client has 30"):
        datasets.load(dataclasses.replace(spec, borders=(25, 5, 5)), datasets.ForecastingEncoder(3, 2), progress=False)


def test_a_split_that_has_no_example_is_an_error(tmp_path):
    write(tmp_path / "x.csv", {"a": np.arange(10), "b": np.arange(10)})
    told = r"data\.test_fraction=1 with data\.split=time: no test client .*; raise the fraction, .*task\.horizons"
    with pytest.raises(UserError, match=told):
        load(tmp_path / "x.csv", tmp_path, split="time", test_fraction=1)
    with pytest.raises(UserError, match=r"data\.borders=8,0,1: no test client has enough records"):
        load(tmp_path / "x.csv", tmp_path, split="time", borders=(8, 0, 1))


@pytest.mark.parametrize(("names", "left"), [("t,a,b", "ab"), ("a,time,b", "ab"), ("x,a,b", "ab"), ("x,c,time", "xc")])
def test_the_times_of_a_wide_table_are_no_client(tmp_path, names, left):
    """`x` is the first column and increases, unless it is turned around; `c` and `b` increase as well."""
    turned = -1 if names == "x,c,time" else 1
    lines = [f"{(t if names[0] != 'a' else t % 3) * turned},{t if names[2] != 'a' else t % 3},{t}" for t in range(20)]
    (tmp_path / "x.csv").write_text("\n".join([names, *lines]))
    fields = {"client_column": None, "client_per_column": True, "numeric_columns": ()}
    assert set(load(tmp_path / "x.csv", tmp_path, split="time", test_fraction=0, **fields).train.client_ids) == set(
        left
    )
    spec = datasets.DataSpec("file", files=(str(tmp_path / "x.csv"),), **fields)
    assert "increases from row to row, as times do, and is no client" in " ".join(open_source(spec).notes())


@pytest.mark.parametrize("named", [(), ("a", "b")])
def test_each_column_of_a_wide_table_is_a_client(tmp_path, named):
    (tmp_path / "x.csv").write_text("date,a,b\n" + "".join(f"2020-01-0{t},{t},{10 * t}\n" for t in range(1, 8)))
    fields = {"client_column": None, "client_per_column": True, "numeric_columns": named}
    found = load(tmp_path / "x.csv", tmp_path, split="time", test_fraction=0, **fields)
    assert found.train.client_ids == ["a", "b"]
    assert windows(found.train, "b")[0] == [10, 20, 30, 40, 50]
    with pytest.raises(UserError, match=r"there is no column 'c' .data\.numeric_columns.; the columns are 'date', 'a'"):
        load(tmp_path / "x.csv", tmp_path, **{**fields, "numeric_columns": ("a", "c")})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"split": "example"}, r"data\.split=example takes records from between others"),
        ({"split": "within_client"}, r"data\.split=within_client takes"),
        ({"partition": "iid"}, r"data\.partition=iid deals records out one by one"),
        ({"client_column": None}, r"data\.partition=iid deals records out one by one"),
        (
            {"numeric_columns": ("nowhere",), "test_fraction": 0},
            r"there is no column 'nowhere' .data\.numeric_columns.",
        ),
        (
            {"numeric_columns": ("sensor",), "test_fraction": 0},
            "line 2: the column 'sensor' has 'a', which is no finite number",
        ),
    ],
)
def test_what_makes_no_series_is_refused(tmp_path, fields, told):
    write(tmp_path / "x.csv", {"a": np.arange(10)})
    with pytest.raises(UserError, match=told):
        load(tmp_path / "x.csv", tmp_path, **fields)


def test_a_column_that_is_named_twice_is_refused():
    with pytest.raises(UserError, match="name the column 'x' twice"):
        datasets.DataSpec("file", files=("x.csv",), numeric_columns=("x",), categorical_columns=("x",))
