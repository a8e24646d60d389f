"""The data that `programs.evaluate` scores: all of a file, unless flags say what to hold out."""

import pytest

from tff_tx.config import RunConfig
from tff_tx.run.assemble.tasks import evaluated_data
from tff_tx.run.directory import StoredRun

TRAINED = {"data.dataset": "file", "data.files": ("a.csv",), "data.text_column": ("said",), "data.test_fraction": 0.2}


def found(given, **run):
    stored = StoredRun("run", RunConfig.of({**TRAINED, **{f"data.{k}": v for k, v in run.items()}}), {})
    return evaluated_data(RunConfig.of(given), given.keys(), stored)


@pytest.mark.parametrize("name", ["data.files", "data.test_files"])
def test_all_of_a_file_is_scored(name):
    config, is_whole = found({name: ("b.csv",)})
    assert is_whole
    data = config.data
    assert (data.dataset, data.files, data.test_files, data.test_fraction) == ("file", ("b.csv",), (), 0)
    assert data.text_column == ("said",), "as in the run"


@pytest.mark.parametrize(
    "more", [{"data.test_fraction": 0.5}, {"data.test_files": ("c.csv",)}, {"evaluate.split_name": "validation"}]
)
def test_what_is_said_of_held_out_data_counts(more):
    given = {"data.files": ("b.csv",), "data.text_column": ("x",)}
    config, is_whole = evaluated_data(
        RunConfig.of({**given, **{k: v for k, v in more.items() if k.startswith("data.")}}), {*given, *more}, None
    )
    assert not is_whole
    assert config.data.files == ("b.csv",)
    assert config.data.text_column == ("x",)


def test_the_end_of_series_is_held_out_as_in_the_run():
    config, is_whole = found({"data.files": ("b.csv",)}, split="time")
    assert (is_whole, config.data.split) == (False, "time")


def test_without_files_the_data_are_the_runs_or_those_named():
    assert found({"run.seed": 3}) == (None, False)
    config, is_whole = found({"data.dataset": "digits"})
    assert (config.data.dataset, is_whole) == ("digits", False)


def test_several_texts_are_joined_as_in_the_run_if_they_are_those_of_the_run():
    joined = {"text_column": ("a", "b"), "text_join": "blank"}
    assert found({"data.files": ("b.csv",)}, **joined)[0].data.text_join == "blank"
    assert found({"data.files": ("b.csv",), "data.text_column": ("a", "c")}, **joined)[0].data.text_join is None


@pytest.mark.parametrize(("header", "column"), [("said,who", "who"), ("said,city", None)])
def test_clients_are_those_of_the_file_if_it_has_the_column_of_the_run(tmp_path, header, column):
    (tmp_path / "b.csv").write_text(f"{header}\nhi,ann\n")
    assert found({"data.files": (str(tmp_path / "b.csv"),)}, client_column="who")[0].data.client_column == column
