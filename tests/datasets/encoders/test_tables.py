"""Rows of tables, and statistics over clients."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
import tensorflow as tf

from tff_tx import datasets
from tff_tx.core.errors import UserError


def spec_of(path, tmp_path, **fields):
    columns = {"numeric_columns": ("age", "dose"), "categorical_columns": ("ward",)}
    return datasets.DataSpec("file", files=(str(path),), cache_dir=str(tmp_path), **{**columns, **fields})


def load(spec):
    survey = datasets.survey(spec)
    encoder = datasets.TabularClassificationEncoder(survey.label_names, survey.features)
    return datasets.load(spec, encoder, progress=False, survey=survey)


def rows_of(clients):
    for client in clients.client_ids:
        yield from clients.create_tf_dataset_for_client(client).as_numpy_iterator()


def test_numbers_stay_and_categories_are_numbered(tmp_path):
    (tmp_path / "x.csv").write_text("ward,age,dose,label,id\nb,3,0.5,no,1\na,-4,1e3,yes,2\nb,7,0,no,3\n")
    found = load(spec_of(tmp_path / "x.csv", tmp_path, num_clients=1, test_fraction=0))
    assert found.label_names == ("no", "yes")
    rows = [(r["numbers"].tolist(), r["categories"].tolist(), int(r["label"])) for r in rows_of(found.train)]
    assert rows == [([3, 0.5], [2], 0), ([-4, 1000], [1], 1), ([7, 0], [2], 0)]


def test_a_value_that_training_does_not_have_is_unknown(tmp_path):
    (tmp_path / "x.csv").write_text("ward,age,dose,label\na,1,1,no\nb,2,2,yes\n")
    (tmp_path / "y.csv").write_text("ward,age,dose,label\nz,1,1,no\n")
    spec = spec_of(tmp_path / "x.csv", tmp_path, test_files=(str(tmp_path / "y.csv"),), num_clients=1)
    (row,) = rows_of(load(spec).test)
    assert row["categories"].tolist() == [0]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_missing_category_is_a_category_of_its_own(tmp_path, ending):
    """As scikit-learn's encoders and gradient-boosted trees have it; one that training has not seen is unknown."""
    table = pd.DataFrame({"ward": ["b", None, "a", None], "label": ["no", "yes", "no", "yes"]})
    path = tmp_path / f"x.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    spec = spec_of(path, tmp_path, numeric_columns=(), num_clients=1, test_fraction=0)
    assert datasets.survey(spec).features.categories == (("", "a", "b"),)
    assert [row["categories"].tolist() for row in rows_of(load(spec).train)] == [[3], [1], [2], [1]]
    (tmp_path / "y.csv").write_text("ward,label\na,no\n")
    (tmp_path / "z.csv").write_text("ward,label\n,no\n")
    seen = spec_of(
        tmp_path / "y.csv", tmp_path, numeric_columns=(), test_files=(str(tmp_path / "z.csv"),), num_clients=1
    )
    assert [row["categories"].tolist() for row in rows_of(load(seen).test)] == [[0]]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_categories_that_are_whole_numbers_are_the_same_beside_a_missing_one(tmp_path, ending):
    for name, wards in (("x", [1, 2, 10]), ("y", [2, None, 10])):
        table, path = pd.DataFrame({"ward": wards, "label": ["no", "yes", "no"]}), tmp_path / f"{name}.{ending}"
        table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    files = {"test_files": (str(tmp_path / f"y.{ending}"),), "numeric_columns": (), "num_clients": 1}
    spec = spec_of(tmp_path / f"x.{ending}", tmp_path, **files)
    assert datasets.survey(spec).features.categories == (("1", "10", "2"),)
    assert [row["categories"].tolist() for row in rows_of(load(spec).test)] == [[3], [0], [2]]
    named = dataclasses.replace(spec, categories={"ward": ["1.0", "2.0"]})
    assert datasets.survey(named).features.categories == (("1", "2"),)


def test_statistics_of_the_federation_are_those_of_all_rows(tmp_path, rng):
    """Unequal clients with unequal means, beside NumPy over everything at once."""
    ages, doses = rng.normal(40, 12, 90), rng.normal(1e4, 5, 90)
    clients = [f"c{i}" for i in np.repeat([0, 1, 2], [60, 25, 5])]
    ages += np.repeat([0, 30, -50], [60, 25, 5])
    table = pd.DataFrame({"client": clients, "age": ages, "dose": doses, "label": "x"})
    table.to_csv(tmp_path / "x.csv", index=False)
    spec = spec_of(tmp_path / "x.csv", tmp_path, client_column="client", categorical_columns=(), test_fraction=0)
    found = load(spec).train
    assert found.sizes() == {"c0": 60, "c1": 25, "c2": 5}
    mean, deviation = datasets.federated_mean_and_deviation(found)
    np.testing.assert_allclose(mean, [ages.mean(), doses.mean()], rtol=1e-6)
    np.testing.assert_allclose(deviation, [ages.std(), doses.std()], rtol=1e-4)


def test_a_column_of_one_value_has_no_deviation(tmp_path, rng):
    """Not that of rounding, by which another value at the test would be millions of deviations away."""
    clients = np.repeat(np.arange(20), rng.integers(1, 400, 20))
    values = np.tile((rng.normal(size=30) * 100 + 1).astype(np.float32), [len(clients), 1])
    values[:, 0] = 1.6e9 + rng.integers(0, 3600, len(clients))  # seconds of an hour

    class Clients:
        client_ids = range(20)

        def create_tf_dataset_for_client(self, client):
            return tf.data.Dataset.from_tensor_slices({"numbers": values[clients == client]})

    mean, deviation = datasets.federated_mean_and_deviation(Clients())
    np.testing.assert_allclose(mean, values.mean(0, np.float64), rtol=1e-12)
    np.testing.assert_array_equal(deviation[1:], 0)
    np.testing.assert_allclose(deviation[0], values[:, 0].std(dtype=np.float64), rtol=1e-2)


def test_missing_numbers_become_the_mean_over_clients(tmp_path):
    (tmp_path / "x.csv").write_text("age,label,client\n1,no,a\nNA,yes,a\n,no,b\n4,yes,b\n?,no,b\n10,yes,c\n")
    spec = spec_of(
        tmp_path / "x.csv",
        tmp_path,
        **{"client_column": "client", "numeric_columns": ("age",), "categorical_columns": (), "test_fraction": 0},
    )
    with pytest.raises(UserError, match="line 3: the column 'age' has 'NA', which is no finite number"):
        load(spec)
    spec = dataclasses.replace(spec, missing_numbers="mean")
    features = datasets.survey(spec).features
    assert features.numeric == ("age", "age is missing")
    assert features.reading == {"numeric_columns": ("age",), "missing_numbers": "mean", "categorical_columns": ()}
    clients = load(spec).train
    found = np.array([row["numbers"] for row in rows_of(clients)])
    np.testing.assert_array_equal(found[:, 1], [0, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(found[:, 0], [1, np.nan, np.nan, 4, np.nan, 10])
    mean, deviation = datasets.federated_mean_and_deviation(clients)
    np.testing.assert_allclose(mean, [5, 0.5])
    np.testing.assert_allclose(deviation, [np.std([1, 4, 10]), 0.5])


def test_breast_cancer_is_scikit_learns(tmp_path):
    bunch = sklearn.datasets.load_breast_cancer()
    spec = datasets.DataSpec("breast_cancer", num_clients=1, test_fraction=0, cache_dir=str(tmp_path))
    found = load(spec)
    assert found.label_names == tuple(bunch.target_names)
    assert datasets.survey(spec).features.numeric[:2] == ("mean_radius", "mean_texture")
    rows = list(rows_of(found.train))
    np.testing.assert_allclose([row["numbers"] for row in rows], bunch.data, rtol=1e-6)
    assert [row["label"] for row in rows] == bunch.target.tolist()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"numeric_columns": (), "categorical_columns": ()},
            r"data\.numeric_columns and data\.categorical_columns are empty",
        ),
        ({"numeric_columns": ("ward",), "categorical_columns": ()}, "line 2: .*'ward' has 'a', which is no finite"),
        ({"numeric_columns": ("dose",)}, "line 3: the column 'dose' has 'nan', which is no finite number"),
        ({"numeric_columns": ("weight",)}, r"there is no column 'weight' .data\.numeric_columns."),
        ({"categorical_columns": ("town",)}, r"there is no column 'town' .data\.categorical_columns."),
    ],
)
def test_wrong_columns_are_refused(tmp_path, fields, told):
    (tmp_path / "x.csv").write_text("ward,age,dose,label\na,1,1,no\nb,2,nan,yes\n")
    with pytest.raises(UserError, match=told):
        load(spec_of(tmp_path / "x.csv", tmp_path, num_clients=1, test_fraction=0, **fields))


def test_columns_of_embedded_data_are_refused():
    with pytest.raises(
        UserError, match=r"data\.numeric_columns=mean_radius has no effect with data\.dataset=breast_cancer"
    ):
        datasets.DataSpec("breast_cancer", numeric_columns=("mean_radius",))
