"""The data that `programs.evaluate` scores: all of a file, unless flags say what to hold out."""

import dataclasses

import pytest

from tff_tx.config import RunConfig
from tff_tx.config.task import DataConfig, ModelConfig, TaskConfig
from tff_tx.run.assemble.tasks import _DIVIDING, _READING, evaluated, evaluated_data, model_spec
from tff_tx.run.directory import StoredRun
from tff_tx.tasks import ModelSpec

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


def test_of_a_folder_with_a_test_split_that_is_scored(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("said,label\nhi,a\n")
    config, is_whole = found({"data.files": (str(tmp_path),)})
    assert (is_whole, config.data.test_fraction, config.data.validation_fraction) == (False, 0, 0)


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


PLACES = (
    *("dataset", "files", "test_files", "silos", "label_names", "label_file", "cache_dir"),
    *("partition", "num_clients", "dirichlet_alpha", "shards_per_client", "power_law_exponent"),
    *("max_train_examples_per_client", "text_join"),
)
"""Settings of data that say neither how columns are read, which other files share with a run, nor what is held out."""
CACHED = {"revision", "cache_features", "feature_cache_bytes"}
"""Settings of models that are no field of their own in a `ModelSpec`."""


def test_every_setting_of_data_is_in_one_place():
    assert sorted([*_READING, *_DIVIDING, *PLACES]) == sorted(field.name for field in DataConfig.fields())


def test_every_setting_of_models_and_tasks_reaches_the_model():
    known = {field.name for field in dataclasses.fields(ModelSpec)}
    assert {field.name for field in ModelConfig.fields()} - known == CACHED
    assert {field.name for field in TaskConfig.fields()} - known == {"kind"}
    values = {
        "task.horizons": (5,),
        "task.max_seconds": 7.0,
        "model.architecture": "bert",
        "model.frozen_dtype": "bfloat16",
    }
    spec = model_spec(RunConfig.of(values))
    assert {path: getattr(spec, path.partition(".")[2]) for path in values} == values


def test_a_model_of_no_run_is_evaluated_by_the_settings_given():
    given = {"data.files": ("x.csv",), "task.kind": "sequence_classification", "engine.threads": 3}
    config, is_whole = evaluated(RunConfig.of(given), frozenset(given), "runs/a/model")
    assert (config.model.pretrained, config.engine.threads, is_whole) == ("runs/a/model", 3, True)
    assert config.data.test_fraction == config.data.validation_fraction == 0.0
