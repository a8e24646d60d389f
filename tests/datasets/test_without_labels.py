"""Held-out files without labels, as competitions and benchmarks publish them, in a folder with training files."""

import json

import numpy as np
import pytest
from PIL import Image

import tff_tx as ft
from tff_tx.core.errors import UserError
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.survey_pass import survey
from tff_tx.run.assemble.tasks import load_task

LABELS = {"label", "labels", "tags"}


def table(path, labels, num_rows, has_labels=True):
    head = "sentence\tlabel\n" if has_labels else "index\tsentence\n"
    rows = ((f"text {n}", labels[n % len(labels)]) if has_labels else (n, f"text {n}") for n in range(num_rows))
    path.write_text(head + "".join(f"{a}\t{b}\n" for a, b in rows))


def spec(*files, **settings):
    return ft.datasets.DataSpec("file", files=tuple(map(str, files)), text_column=("sentence",), **settings)


def left(a_spec, wants=LABELS):
    """The splits that are left, and which are not."""
    found = survey(a_spec).having(wants)
    return sorted(found.pools), found.without_labels


@pytest.fixture
def folder(tmp_path):
    """As GLUE has it: train.tsv and dev.tsv with labels, test.tsv without."""
    for name, num_rows, has_labels in (("train", 40, True), ("dev", 10, True), ("test", 10, False)):
        table(tmp_path / f"{name}.tsv", "01", num_rows, has_labels)
    return tmp_path


def test_a_split_without_the_column_is_left_out(folder, tmp_path):
    a_spec = spec(folder, cache_dir=str(tmp_path / "cache"))
    assert left(a_spec) == (["train", "validation"], ("test",))
    assert left(a_spec, {"text"}) == (["test", "train", "validation"], ())  # models of language read no label


def test_what_a_setting_names_must_have_labels(folder, tmp_path):
    a_spec = spec(folder / "train.tsv", test_files=(str(folder / "test.tsv"),), cache_dir=str(tmp_path / "cache"))
    assert left(a_spec) == (["test", "train"], ())
    with pytest.raises(UserError, match=r"test.tsv, line 2: there is no column 'label'"):
        list(open_source(a_spec).pools["test"](["label"]))


@pytest.mark.parametrize("none", [-1, -1.0, None, "", "?"])
def test_a_split_whose_labels_say_that_there_is_none_is_left_out(none, tmp_path):
    for name, label in (("train", None), ("test", none)):
        rows = ({"sentence": f"text {n}", "label": n % 2 if name == "train" else label} for n in range(10))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert left(spec(tmp_path, cache_dir=str(tmp_path / "cache"))) == (["train"], ("test",))


@pytest.mark.parametrize(("labels", "of_test"), [(["-1", "1"], ["-1"]), (["0", "1"], ["-1", "1"])])
def test_a_label_among_others_is_one(labels, of_test, tmp_path):
    table(tmp_path / "train.tsv", labels, 10)
    table(tmp_path / "test.tsv", of_test, 10)
    assert left(spec(tmp_path, cache_dir=str(tmp_path / "cache"))) == (["test", "train"], ())


def test_pictures_without_folders_of_classes_are_left_out(tmp_path):
    numbers = range(3)
    places = [f"train/{kind}/{n}.png" for kind in ("cat", "dog") for n in numbers]
    for place in [*places, *(f"test/{n}.png" for n in numbers)]:
        (tmp_path / "pictures" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "pictures" / place)
    assert left(spec(tmp_path / "pictures", cache_dir=str(tmp_path / "cache"))) == (["train"], ("test",))


def test_a_run_says_so_and_holds_test_data_out(folder, tmp_path):
    model_config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = ft.RunConfig.of(
        {
            "data.dataset": "file",
            "data.files": (str(folder),),
            "data.text_column": ("sentence",),
            "data.num_clients": 4,
            "data.test_fraction": 0.25,
            "data.cache_dir": str(tmp_path / "cache"),
            "task.kind": "sequence_classification",
            "model.architecture": "bert",
            "model.tokenizer": "bytes",
            "model.config": model_config,
        }
    )
    task = load_task(config, progress=False)
    assert "The test data have no labels, and are left out." in task.notes
    assert sum(task.test.sizes().values()) == 10
    assert sum(task.validation.sizes().values()) == 10
