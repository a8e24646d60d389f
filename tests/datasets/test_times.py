"""The order of times, by which records are checked and sorted."""

import datetime
import itertools

import numpy as np
import pandas as pd
import pytest

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets.times import Order, by_time

DAYS = [datetime.datetime(2023, 12, 28, 10) + datetime.timedelta(days=n) for n in range(20)]
WRITTEN = {
    "iso": "%Y-%m-%d %H:%M:%S",
    "zone": "%Y-%m-%dT%H:%M:%SZ",
    "utc": "%Y-%m-%d %H:%M:%S UTC",
    "german": "%d.%m.%Y %H:%M",
    "american": "%m/%d/%Y %I:%M %p",
    "british": "%d/%m/%Y",
    "day": "%Y%m%d",
}


def fault(column, clients=None, name="Date"):
    rows = ((f"x.csv, line {n}", {name: value}) for n, value in enumerate(column, start=2))
    return Order().find(clients or itertools.repeat("a"), rows)


@pytest.mark.parametrize("pattern", WRITTEN.values(), ids=WRITTEN)
def test_times_are_in_order_as_they_are_written(pattern):
    written = [day.strftime(pattern) for day in DAYS]
    assert fault(written) is None
    swapped = [*written[:8], written[9], written[8], *written[10:]]
    assert fault(swapped) == ("x.csv, line 11", "Date", written[8], written[9])
    # Of two clients each is in order.
    assert fault([*written, *written], ["a"] * 20 + ["b"] * 20) is None
    rows = [(str(n), {"Date": value}) for n, value in enumerate(written)]
    mixed = np.random.default_rng(0).permutation(20)
    assert by_time([rows[n] for n in mixed], "Date") == rows


def test_seconds_dates_and_stamps():
    seconds = [day.timestamp() for day in DAYS]
    assert fault(seconds, name="event_time") is None
    assert fault(seconds[::-1], name="eventTime")[0] == "x.csv, line 3"
    assert fault(DAYS[::-1], name="when")[0] == fault([day.date() for day in DAYS][::-1])[0] == "x.csv, line 3"


@pytest.mark.parametrize(
    "rows",
    [
        [{"time": n % 24} for n in range(48)],  # hours of a day
        [{"load": 2e9 - n} for n in range(9)],
        [{"version": f"{9 - n}.1.20"} for n in range(9)],
        [{"date": f"2024-01-{n + 1}", "delivered": f"2024-03-{28 - n}"} for n in range(10, 20)],  # one is in order
        [{"date": "2024-02-02"}, {"date": "unknown"}, {"date": "2024-02-01"}],
        # One that has a gap may be the time, as may one that is written in several ways.
        [{"date": date, "born": f"19{90 - n}-02-01"} for n, date in enumerate(["2024-02-02", "", None, "2024-02-03"])],
        [{"date": d, "born": b} for d, b in (("2024-02-02", "1990-01-01"), ("soon", ""), ("2024-02-03", "1980-01-01"))],
        [{"date": date} for date in ("01.02.2024", "03.01.2024 10:00", "02.01.2024")],
        # The clocks go back an hour.
        [{"time": f"2023-10-29 {clock}"} for clock in ("01:45", "02:00", "02:45", "02:00", "02:45", "03:00")],
    ],
)
def test_what_is_no_order_of_time_is_left_alone(rows):
    assert Order().find(itertools.repeat(0), ((str(n), row) for n, row in enumerate(rows))) is None


def test_gaps_and_another_reading_of_dates_hide_no_disorder():
    # By month and day there is disorder, before a date shows that they are not day and month.
    assert fault(["03/01/2024", "02/02/2024", "01/13/2024"])[0] == "x.csv, line 3"
    assert fault(["2024-02-02", "", None, "2024-02-01"])[2:] == ("2024-02-01", "2024-02-02")


def test_what_cannot_be_sorted_by_is_refused():
    with pytest.raises(UserError, match=r"^b: the column 'date' has 'soon', which is no time .* data\.time_column\.$"):
        by_time([("a", {"date": "2024-01-01"}), ("b", {"date": "soon"})], "date")
    with pytest.raises(UserError, match=r"^a: .* whose first number may be the day or the month"):
        by_time([("a", {"date": "02/01/2024"}), ("b", {"date": "01/03/2024"})], "date")
    assert by_time([("a", {"date": "01/02/2024"}), ("b", {"date": "03/04/2024"})], "date")[0][0] == "a"


def load(path, encoder, **settings):
    spec = datasets.DataSpec("file", files=(str(path),), cache_dir=str(path.parent), test_fraction=0, **settings)
    return datasets.load(spec, encoder, progress=False).train


@pytest.mark.parametrize("wide", [False, True])
def test_series_out_of_order_are_refused_or_sorted(tmp_path, wide):
    table = pd.DataFrame({"day": [day.date() for day in DAYS], "load": np.arange(20.0), "flow": -np.arange(20.0)})
    settings = {"client_per_column": True} if wide else {"numeric_columns": ("load",), "client_column": "meter"}
    table = table if wide else table.drop(columns="flow").assign(meter="load")
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "x.csv", index=False)
    table.to_csv(tmp_path / "sorted.csv", index=False)
    encoder = datasets.ForecastingEncoder(3, 2)
    with pytest.raises(UserError, match=r"x\.csv, line 4.*: the column 'day' has '20.*data\.time_column=day"):
        load(tmp_path / "x.csv", encoder, **settings)
    with pytest.raises(UserError, match=r"line 2.*: there is no column 'dya' \(data\.time_column\)"):
        load(tmp_path / "x.csv", encoder, time_column="dya", **settings)
    load(tmp_path / "x.csv", encoder, time_column="none", **settings)
    with open(tmp_path / "x.csv", "a") as file:
        file.write(",1,2\n")
    with pytest.raises(UserError, match=r"line 22.*: the column 'day' has .*, which is no time"):
        load(tmp_path / "x.csv", encoder, time_column="day", **settings)
    settings["on_bad_rows"] = "skip"
    found = load(tmp_path / "x.csv", encoder, time_column="day", **settings)
    assert found.fingerprint == load(tmp_path / "sorted.csv", encoder, **settings).fingerprint


def test_splits_in_time_look_at_the_order_and_others_do_not(tmp_path):
    rows = [{"user": "u", "label": "ab"[n % 2], "text": "t", "date": str(DAYS[n].date())} for n in (3, 2, 1, 0)]
    pd.DataFrame(rows).to_json(tmp_path / "x.jsonl", orient="records", lines=True)

    def read(split, **more):
        spec = datasets.DataSpec(
            "file", files=(str(tmp_path / "x.jsonl"),), client_column="user", split=split, test_fraction=1, **more
        )
        return datasets.load(spec, datasets.NextItemEncoder(("a", "b"), 3), progress=False)

    with pytest.raises(UserError, match=r"line 2: the column 'date' has .* after"):
        read("time", cache_dir=str(tmp_path))
    test = read("time", cache_dir=str(tmp_path), time_column="date").test
    (example,) = test.create_tf_dataset_for_client("u").as_numpy_iterator()
    assert example["item_ids"].tolist() == [1, 2, 1, 2]
