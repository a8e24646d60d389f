"""Data that `datasets` of Hugging Face wrote, read without it: Arrow directories and Parquet, with names of labels."""

import importlib.util
import io
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import ipc, parquet

from tff_tx import datasets
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.likely_task import likely_task
from tff_tx.datasets.overview import overview
from tff_tx.datasets.sources import open_source

CLASS = {"names": ["world", "arts"], "_type": "ClassLabel"}
TAGS = {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "Sequence"}
FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": CLASS, "words": {"_type": "Sequence"}, "ner": TAGS}


def table(size, features=FEATURES, **more):
    rows = {
        "text": [f"text {n}" for n in range(size)],
        "label": [n % 2 for n in range(size)],
        "words": [["a", "b"]] * size,
        "ner": [[0, 1]] * size,
        **more,
    }
    return pa.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save_to_disk(directory, found, parts=2):
    """As `datasets` does: a stream of batches a file, and what is in which file."""
    directory.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{parts:05d}.arrow" for n in range(parts)]
    for n, name in enumerate(names):
        part = found.slice(n * len(found) // parts, len(found) // parts)
        with ipc.new_stream(str(directory / name), part.schema) as writer:
            writer.write_table(part, max_chunksize=2)
    (directory / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (directory / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def read(spec, *wants, pool="train"):
    return pd.concat(open_source(spec).pools[pool](frozenset(wants)), ignore_index=True)


def file_spec(path, **settings):
    return DataSpec("file", files=(str(path),), **settings)


def test_a_directory_with_splits(tmp_path):
    save_to_disk(tmp_path / "set" / "train", table(6))
    save_to_disk(tmp_path / "set" / "test", table(2), parts=1)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    spec = file_spec(tmp_path / "set", cache_dir=str(tmp_path / "cache"))
    found = read(spec, "text", "label")
    assert found["text"].tolist() == [f"text {n}" for n in range(6)]
    assert found["label"].tolist() == ["world", "arts"] * 3
    assert len(read(spec, "text", pool="test")) == 2
    assert datasets.label_names(spec) == ("world", "arts"), "in the order of their numbers"


def test_one_split_alone_and_word_tags(tmp_path):
    # Where files say nothing of features, the directory does.
    save_to_disk(tmp_path / "set", table(4).replace_schema_metadata(None))
    spec = file_spec(tmp_path / "set", text_column=("words",), label_column="ner", cache_dir=str(tmp_path / "cache"))
    assert read(spec, "tokens", "tags")["tags"][0] == ["O", "B-X"]
    assert datasets.label_names(spec) == ("O", "B-X")


def test_a_cached_arrow_file_and_parquet(tmp_path):
    image = np.full([2, 3, 3], 7, np.uint8)
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    found = table(2, image=[{"bytes": png.getvalue(), "path": None}] * 2).append_column("hidden", [[-1, 1]])
    features = {**FEATURES, "image": {"_type": "Image"}, "hidden": CLASS}
    found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    with ipc.new_file(str(tmp_path / "x.arrow"), found.schema) as writer:
        writer.write_table(found)
    parquet.write_table(found, tmp_path / "x.parquet")
    for name in ("x.arrow", "x.parquet"):
        spec = file_spec(tmp_path / name, cache_dir=str(tmp_path / "cache"))
        np.testing.assert_array_equal(read(spec, "pixels")["pixels"][1], image)
        assert read(spec, "label")["label"].tolist() == ["world", "arts"]
        assert datasets.label_names(spec) == ("world", "arts")
        with pytest.raises(UserError, match="the column 'hidden' has no value"):
            read(file_spec(tmp_path / name, label_column="hidden"), "label")


def test_a_damaged_directory_is_refused(tmp_path):
    save_to_disk(tmp_path / "set", table(4), parts=1)
    next((tmp_path / "set").glob("*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(UserError, match=r"\.arrow: no Arrow file .*save the data set again"):
        read(file_spec(tmp_path / "set"), "text")
    (tmp_path / "set" / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"state\.json cannot be read .*save the data set again"):
        read(file_spec(tmp_path / "set"), "text")


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="datasets is installed.")
def test_the_hub_needs_the_package():
    with pytest.raises(UserError, match=r"data\.files=hf://owner/name: .* `datasets`, which is not installed: install"):
        open_source(file_spec("hf://owner/name"))


def test_names_of_the_hub_are_no_paths():
    config = RunConfig.of({"data.dataset": "file", "data.files": ("hf://owner/name",)})
    assert config.with_absolute_paths().data.files == ("hf://owner/name",)


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full([2, 2], value, np.uint8)).save(path)


def test_folders_of_pictures(tmp_path):
    for number, (client, kind) in enumerate([("ann", "cat"), ("ann", "dog"), ("bob", "cat")]):
        picture(tmp_path / client / kind / "1.png", number)
    source = open_source(file_spec(tmp_path))
    assert source.has_clients
    assert source.columns() == {"pixels", "label", "client"}
    found = read(file_spec(tmp_path), "pixels", "label", "client")
    assert found["client"].tolist() == ["ann", "ann", "bob"]
    assert found["label"].tolist() == ["cat", "dog", "cat"]
    assert [pixels.max() for pixels in found["pixels"]] == [0, 1, 2]


@pytest.mark.parametrize("named", [None, "images"])
def test_files_without_an_ending_are_no_pictures(tmp_path, named):
    picture(tmp_path / "ann" / "cat" / "1.png", 3)
    picture(tmp_path / "ann" / "cat" / "2.png", 4)
    os.rename(tmp_path / "ann" / "cat" / "2.png", tmp_path / "ann" / "cat" / "2.dat")
    (tmp_path / "LICENSE").write_text("whose they are")
    found = read(file_spec(tmp_path, format=named), "pixels")["pixels"]
    assert [pixels.max() for pixels in found] == ([3] if named is None else [3, 4])


def test_folders_without_clients(tmp_path):
    for name in ("cat/1.jpg", "dog/2.png"):
        picture(tmp_path / name, 9)
    source = open_source(file_spec(tmp_path))
    assert not source.has_clients
    assert source.columns() == {"pixels", "label"}


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_pictures_by_a_table(tmp_path, name):
    picture(tmp_path / "a" / "1.png", 5)
    row = {"file_name": "a/1.png", "label": "cat", "client": "ann"}
    form = pd.DataFrame([row]).to_csv(index=False) if name.endswith("csv") else json.dumps(row)
    (tmp_path / name).write_text(form)
    for path in (tmp_path, tmp_path / name):
        found = read(file_spec(path, client_column="client"), "pixels", "label", "client")
        assert found["pixels"][0].max() == 5
        assert (found["label"][0], found["client"][0]) == ("cat", "ann")


def test_folders_of_recordings_give_paths(tmp_path):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "1.wav").write_bytes(b"RIFF")
    chunk = next(open_source(file_spec(tmp_path)).pools["train"].chunks())
    assert chunk.rows[0][1] == {"label": "yes", "audio": {"path": str(tmp_path / "yes" / "1.wav")}}


def test_transcripts_beside_recordings_are_what_they_say(tmp_path):
    """As LibriSpeech has them: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt."""
    for split in ("train-clean-100", "dev-clean"):
        folder = tmp_path / split / "84" / "121"
        folder.mkdir(parents=True)
        said = [f"84-121-{n:04} {word} {split.upper()}" for n, word in enumerate(("GO", "DO", "BE", "NOT"))]
        (folder / "84-121.trans.txt").write_text("\n".join(said))
        for n in range(3):
            (folder / f"84-121-{n:04}.flac").write_bytes(b"fLaC")
    spec = file_spec(tmp_path, target_column="transcript")
    assert read(spec, "target")["target"].tolist() == [f"{word} TRAIN-CLEAN-100" for word in ("GO", "DO", "BE")]
    assert read(spec, "target", pool="validation")["target"].tolist() == [
        f"{word} DEV-CLEAN" for word in ("GO", "DO", "BE")
    ]
    likely = likely_task(spec, overview(spec), open_source(spec).columns())
    assert likely == {"task.kind": "speech_recognition", "data.target_column": "transcript"}


@pytest.mark.parametrize(
    "names",
    [
        "train/{}.csv test/{}.csv dev/{}.csv",
        "train-{}.csv test-{}.csv dev-{}.csv",
        "data/train-{}.csv data/test-{}.csv data/dev-{}.csv",
        "wiki.train.{}.csv wiki.test.{}.csv wiki.dev.{}.csv",
        "nli_1.0_train.csv nli_1.0_test.csv nli_1.0_dev_matched.csv",
    ],
)
def test_splits_by_names_in_a_folder_and_files_of_other_kinds(tmp_path, names):
    for name in names.split():
        path = tmp_path / name.format("00000-of-00001")
        path.parent.mkdir(exist_ok=True)
        split = next(word for word in ("train", "test", "dev") if word in name)
        path.write_text(f"text,label\n{split},a\n")
    (tmp_path / "README.md").write_text("what it is")
    (tmp_path / "dataset_infos.json").write_text("{}")
    spec = file_spec(tmp_path)
    assert set(open_source(spec).pools) == {"train", "validation", "test"}
    found = {pool: read(spec, "text", pool=pool)["text"].tolist() for pool in ("train", "validation", "test")}
    assert found == {"train": ["train"], "validation": ["dev"], "test": ["test"]}


@pytest.mark.parametrize(
    "names", ["trains.csv b.csv", "train.csv test.csv b.csv", "train/1 test/2 bob/3", "my_train.csv a_test.csv"]
)
def test_a_folder_with_data_of_other_names_trains_whole(tmp_path, names):
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text,label\nx,a\n")
    assert set(open_source(file_spec(tmp_path)).pools) == {"train"}
    assert len(read(file_spec(tmp_path), "text")) == len(names.split())


@pytest.mark.parametrize("above", ["", "xray/"])
def test_pictures_by_split_class_and_client(tmp_path, above):
    for name in ("train/ann/cat/1.png", "train/bob/dog/1.png", "test/eve/cat/1.png"):
        picture(tmp_path / f"{above}{name}", 1)
    assert read(file_spec(tmp_path), "client")["client"].tolist() == ["ann", "bob"]
    assert read(file_spec(tmp_path), "client", "label", pool="test")["client"].tolist() == ["eve"]


def test_lists_beside_folders_of_classes_in_those_of_splits_are_no_texts(tmp_path):
    texts = [f"{split}/{name}/1_9.txt" for split in ("train", "test") for name in ("pos", "neg")]
    lists = ["imdb.vocab", "train/urls_pos.txt", "train/labeledBow.feat", "test/urls_pos.txt", "train/unsup/1_0.txt"]
    for name in (*texts, *lists):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for pool in ("train", "test"):
        found = read(file_spec(tmp_path), "text", "label", pool=pool)
        assert found["text"].tolist() == [f"{pool}/neg/1_9.txt", f"{pool}/pos/1_9.txt"]
        assert found["label"].tolist() == ["neg", "pos"]


def test_files_called_as_held_out_data_that_are_trained_on_are_said(tmp_path):
    for name in ("xnli.dev.csv", "other.csv"):
        (tmp_path / name).write_text("text,label\nx,a\n")
    (note,) = [note for note in open_source(file_spec(tmp_path)).notes() if "trained on" in note]
    assert note.startswith("xnli.dev.csv: trained on as all files of the folder")


def test_texts_by_split_and_class_beside_a_file_about_them(tmp_path):
    for name in ("train/pos/1.txt", "train/neg/1.txt", "test/neg/1.txt", "README"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(file_spec(tmp_path), "text")["text"].tolist() == ["train/neg/1.txt", "train/pos/1.txt"]
    assert read(file_spec(tmp_path), "text", pool="test")["text"].tolist() == ["test/neg/1.txt"]
