"""The survey: one pass for all that must be known before encoding, whatever the encoder."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.assignment import assign


@pytest.fixture
def spec(tmp_path):
    """Labels, clients, a category and a number."""
    rows = "".join(f"t{n},{n * 7 % 3},c{n * 5 % 4},w{n % 2},{n}\n" for n in range(24))
    (tmp_path / "x.csv").write_text("text,label,who,ward,age\n" + rows)
    (tmp_path / "y.csv").write_text("text,label,who,ward,age\nt,1,d,w9,1\n")
    columns = {"client_column": "who", "categorical_columns": ("ward",), "numeric_columns": ("age",)}
    return DataSpec("file", files=(str(tmp_path / "x.csv"),), cache_dir=str(tmp_path / "cache"), **columns)


def with_test(spec):
    return dataclasses.replace(spec, test_files=(spec.files[0].replace("x.csv", "y.csv"),))


def surveys_in(spec):
    return [name for name in os.listdir(spec.cache_dir) if name.endswith(".npz")]


def test_everything_comes_of_one_survey(spec):
    found = datasets.survey(with_test(spec))
    assert found.label_names == ("0", "1", "2")
    assert found.features == datasets.Features(("age",), ("ward",), (("w0", "w1"),))
    train = found.pools["train"]
    assert [train.label_values[n] for n in train.labels] == [str(n * 7 % 3) for n in range(24)]
    assert [train.client_ids[n] for n in train.clients] == [f"c{n * 5 % 4}" for n in range(24)]
    assert (found.pools["test"].num_rows, found.pools["test"].client_ids) == (1, ("d",))


def test_a_survey_from_the_cache_is_the_same(spec):
    first, again = datasets.survey(with_test(spec)), datasets.survey(with_test(spec))
    assert len(surveys_in(spec)) == 1
    for name, pool in first.pools.items():
        for field in dataclasses.fields(pool):
            one, other = getattr(pool, field.name), getattr(again.pools[name], field.name)
            assert type(one) is type(other), field.name
            np.testing.assert_array_equal(one, other, err_msg=field.name)


def test_dealing_shares_a_survey_and_reading_does_not(spec):
    datasets.survey(spec)
    datasets.survey(dataclasses.replace(spec, partition="iid", num_clients=3, seed=4, split="example", test_fraction=2))
    assert len(surveys_in(spec)) == 1
    assert datasets.survey(dataclasses.replace(spec, label_column="ward")).label_names == ("w0", "w1")
    assert len(surveys_in(spec)) == 2


def test_a_change_that_keeps_size_and_time_is_seen(spec):
    path, state = spec.files[0], os.stat(spec.files[0])
    first = datasets.survey(spec)
    with open(path) as file:
        content = file.read()
    with open(path, "w") as file:
        file.write(content.replace("t0,0,", "t0,9,"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    found = datasets.survey(spec)
    assert found.label_names == ("0", "1", "2", "9")
    assert found.digest != first.digest


def test_the_digest_is_that_of_the_training_data_wherever_they_lie(spec, tmp_path):
    first = datasets.survey(spec)
    assert datasets.survey(with_test(spec)).digest == first.digest
    os.rename(spec.files[0], tmp_path / "z.csv")
    assert datasets.survey(dataclasses.replace(spec, files=(str(tmp_path / "z.csv"),))).digest == first.digest


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file"])
def test_a_damaged_survey_is_made_again(spec, content):
    expected = datasets.survey(spec).label_names
    (name,) = surveys_in(spec)
    path = os.path.join(spec.cache_dir, name)
    with open(path, "wb") as file:
        file.write(content)
    assert datasets.survey(spec).label_names == expected
    assert os.path.getsize(path) > len(content)


def test_a_column_that_cannot_be_read_is_an_error_when_it_is_needed(spec):
    with open(spec.files[0], "a") as file:
        file.write("t,,c1,w0,1\n")
    found = datasets.survey(spec)
    assert found.pools["train"].num_rows == 25
    assert found.features.categories == (("w0", "w1"),)
    assign(spec, found)
    with pytest.raises(UserError, match=r"line 2: the column 'text' has 't0', which is no image"):
        found.image_shape
    moved = dataclasses.replace(spec, files=(spec.files[0].replace("x.csv", "moved.csv"),), partition="shards")
    os.rename(spec.files[0], moved.files[0])
    found = datasets.survey(moved)
    assert len(surveys_in(spec)) == 1
    for needs_labels in (lambda: found.label_names, lambda: assign(moved, found)):
        with pytest.raises(UserError, match=r"moved\.csv, line 26: the column 'label' has ''"):
            needs_labels()
    named = dataclasses.replace(moved, label_names=("0", "1"))
    assert datasets.survey(named).label_names == ("0", "1")


def test_labels_and_values_that_are_given_are_not_looked_for(spec, tmp_path):
    (tmp_path / "labels.txt").write_text("2\nrarely\n0\n")
    given = dataclasses.replace(
        spec, label_file=str(tmp_path / "labels.txt"), categorical_columns=("ward",), categories={"ward": ["w9", "w1"]}
    )
    assert datasets.label_names(given) == datasets.survey(given).label_names == ("2", "rarely", "0")
    assert datasets.survey(given).features.categories == (("w9", "w1"),)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot be read"), ("a\n\nb\n", "empty line"), ("", "is empty")]
)
def test_a_file_of_labels_has_each_in_a_line(content, reason, tmp_path):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=f"data.label_file=.*{reason}"):
        datasets.DataSpec(label_file=str(path)).known_labels


def test_a_cache_that_cannot_be_written_is_no_matter_of_the_survey(spec, tmp_path):
    (tmp_path / "cache").write_text("a file where the directory should be")
    assert datasets.survey(spec).label_names == ("0", "1", "2")


def test_data_are_described_without_tensorflow(spec):
    code = (
        "import sys; from tff_tx.datasets import DATASETS, FORMATS, PARTITIONS, SPLITS, DataSpec, survey;"
        "tables = [dict(t.items()) for t in (DATASETS, FORMATS, PARTITIONS, SPLITS)];"
        "assert DATASETS['stdlib'].defaults['task'] == 'causal_lm';"
        f"assert survey(DataSpec('file', files=({spec.files[0]!r},), cache_dir={spec.cache_dir!r})).label_names;"
        "assert 'tensorflow' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
