"""Each mistake in a file gives one sentence: what, where, the value found, and the remedy."""

import json
import os
import sqlite3

import h5py
import pytest
import tensorflow as tf

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec, StoreWriter
from tff_tx.datasets.sources import open_source

ALL = ("text", "label")
ASKED = ("question", "context", "answers")


def leaf(users, data):
    return json.dumps({"users": users, "num_samples": [], "user_data": data})


ONE = {"x": ["t"], "y": ["l"]}
CASES = {
    # name of the case: (file name, content, settings, columns wanted, message)
    "no such column": (
        "x.csv",
        "title,label\na,b\n",
        {},
        ALL,
        r"x\.csv, line 2: there is no column 'text' \(data\.text_column\); the columns are 'title', "
        r"'label'; name one of them",
    ),
    "no label column": ("x.csv", "text,y\na,b\n", {}, ALL, r"'label' \(data\.label_column\).*'y'"),
    "no client column": (
        "x.csv",
        "text,label\na,b\n",
        {"client_column": "who"},
        ("client",),
        r"line 2: there is no column 'who' \(data\.client_column\)",
    ),
    "no json key": ("x.jsonl", '{"a": 1}', {}, ALL, r"x\.jsonl, line 1: there is no column 'label'"),
    "too few fields": (
        "x.csv",
        "text,label\na,b\nc\n",
        {},
        ALL,
        r"x\.csv, line 3: 1 fields where the first line has 2 \(text, label\); correct",
    ),
    "too many fields": (
        "x.tsv",
        "a\tb\nc\td\te\n",
        {"columns": ("text", "label")},
        ALL,
        r"x\.tsv, line 2: 3 fields where data\.columns names 2",
    ),
    "too few fields of those named": (
        "x.csv",
        "a\n",
        {"columns": ("text", "label"), "delimiter": ","},
        ALL,
        r"x\.csv, line 1: 1 fields where .* quotes, or give what it lacks an empty field\.",
    ),
    "header twice": ("x.csv", "text,label\na,b\ntext,label\n", {}, ALL, r"x\.csv, line 3: it repeats the first"),
    "unclosed quote": ("x.csv", 'text,label\n"a,b\nc,d\n', {}, ALL, r"x\.csv, line 3: .*quotes"),
    "stray quote": ("x.csv", 'text,label\n"a"b,c\n', {}, ALL, r"x\.csv, line 2: cannot be parsed"),
    "column twice": ("x.csv", "text,text\na,b\n", {}, ALL, r"line 1: the column 'text' is there twice"),
    "not utf-8": (
        "x.csv",
        b"text,label\nok,a\ncaf\xe9,b\n",
        {},
        ALL,
        r"x\.csv, line 3: the byte 0xe9 is not UTF-8; name its data.encoding, such as cp1252 ",
    ),
    "text not utf-8": ("x.txt", b"\xff\xff", {"format": "text"}, ALL, r"x\.txt, line 1: .*0xff"),
    "empty csv": ("x.csv", "", {}, ALL, r"x\.csv: the file has no record; fill it or leave it out"),
    "header alone": ("x.csv", "text,label\n", {}, ALL, r"x\.csv: the file has no record"),
    "empty conll": ("x.conll", "\n\n", {}, ("tokens", "tags"), r"x\.conll: the file has no record"),
    "empty value": ("x.csv", "text,label\na,\n", {}, ALL, r"x\.csv, line 2: the column 'label' has ''"),
    "null": ("x.jsonl", '{"text": null, "label": 1}', {}, ALL, r"line 1: the column 'text' has no value"),
    "not text": (
        "x.jsonl",
        '{"text": [1], "label": 1}',
        {},
        ALL,
        r"line 1: the column 'text' has '\[1\]', which is no text; correct it",
    ),
    "not json": (
        "x.jsonl",
        '{"text": "a", "label": "b"}\n{"text": \n',
        {},
        ALL,
        r"x\.jsonl, line 2: no valid JSON \(Expecting value at .*\); correct the line",
    ),
    "comma at the end": (
        "x.jsonl",
        '{"text": "a", }',
        {},
        ALL,
        r"line 1: no valid JSON \(a comma before } at column 15",
    ),
    "comma at the end of all": ("x.json", '[{"text": "a"},\n]', {}, ALL, r"line 2: no valid JSON \(a comma before \]"),
    "python": ("x.jsonl", "{'text': 'a'}", {}, ALL, r"line 1: no valid JSON \(single quotes, .* at column 2\)"),
    "no object": ("x.jsonl", '{"text": "a", "label": 1}\n[1]', {}, ALL, r"x\.jsonl, line 2: a list where an object"),
    "no objects": ("x.jsonl", "[1, 2]", {}, ALL, r"x\.jsonl, line 1: a list where an object"),
    "no tag": ("x.conll", "a\tO\nb\n", {}, ("tokens", "tags"), r"x\.conll, line 2: 'b' is no token and tag"),
    "other width": ("x.conll", "a O\nb X O\n", {}, ("tokens", "tags"), r"line 2: 'b X O' is no token"),
    "second header": (
        "x.csv",
        ",X1,Y\nID,AGE,default\n1,24,1\n2,26,0\n3,34,1\n",
        {"label_column": "Y"},
        ("label",),
        r"x\.csv, line 2: 'ID', 'AGE', 'default' stand where the next lines have numbers, as names of",
    ),
    "numbered words": (
        "x.conll",
        "1 Rome B-LOC\n2 . O\n",
        {},
        ("tokens", "tags"),
        r"line 1: field 1 of 3 numbers the words: name all fields with data\.columns, such as number,tokens,tags\.",
    ),
    "numbered words with two tags": (
        "x.conll",
        "# Rome\n1\tRome\tB-LOC\tO\n2\t.\tO\tO\n",
        {},
        ("tokens", "tags"),
        r"line 2: field 1 of 4 numbers the words: name all fields with .*, such as number,tokens,tags,field4\.",
    ),
    "documents before numbered words": (
        "x.conll",
        "#begin document (cctv);\ncctv 0 0 Rome NNP (GPE) -\ncctv 0 1 . . * (3)\n",
        {},
        ("tokens", "tags"),
        r"line 2: field 3 of 7 numbers the words: name all fields with .*, such as field1,field2,number,tokens,fie",
    ),
    "too many names": (
        "x.conll",
        "Rome B-LOC\n",
        {"columns": ("number", "tokens", "tags")},
        ("tokens", "tags"),
        r"line 1: 'Rome B-LOC' is no number, tokens, tags, separated by",
    ),
    "no speaker": (
        "x.txt",
        "Ann:\nHi.\n\nHello.\n",
        {"format": "dialogue"},
        ("text",),
        r"x\.txt, line 4: 'Hello\.' opens a turn and is no `Speaker:`; put",
    ),
    "tokens and tags": (
        "x.jsonl",
        '{"tokens": ["a", "b"], "tags": ["O"]}',
        {},
        ("tokens", "tags"),
        r"x\.jsonl, line 1: 2 tokens and 1 tags; give each token one tag",
    ),
    "leaf not json": ("x.json", "{\n,", {"format": "leaf"}, ALL, r"x\.json, line 2: no valid JSON"),
    "no leaf": ("x.json", '{"a": 1}', {"format": "leaf"}, ALL, r"x\.json: no LEAF file.*`users`.*data\.format"),
    "leaf without any example": ("x.json", leaf(["u"], {}), {}, ALL, r"x\.json: the file has no record"),
    "leaf user twice": (
        "x.json",
        leaf(["u", "u"], {"u": ONE}),
        {},
        ALL,
        r"x\.json: the user 'u' is listed twice; give",
    ),
    "leaf lengths": (
        "x.json",
        leaf(["u"], {"u": {"x": ["a", "b"], "y": [1]}}),
        {},
        ALL,
        r"the user 'u' has 2 inputs `x` and 1 labels `y`; make",
    ),
    "no squad json": ("x.json", "[1,\n", {"format": "squad"}, ASKED, r"x\.json, line 2: no valid JSON"),
    "no squad": ("x.json", "[]", {"format": "squad"}, ASKED, r"x\.json: no SQuAD file at data .*data\.format"),
    "squad without a context": (
        "x.json",
        json.dumps({"data": [{"title": "Oxygen", "paragraphs": [{"qas": []}]}]}),
        {"format": "squad"},
        ASKED,
        r"x\.json: no SQuAD file at 'Oxygen', paragraph 1 \(KeyError 'context'\), which",
    ),
    "squad without a place": (
        "x.json",
        json.dumps(
            {
                "data": [
                    {
                        "paragraphs": [
                            {"context": "c", "qas": [{"id": "7", "question": "q", "answers": [{"text": "c"}]}]}
                        ]
                    }
                ]
            }
        ),
        {"format": "squad"},
        ASKED,
        r"question '7': the column 'answers' has .*, which is no list of answers with text and answer_start; correct",
    ),
    "no answer column": (
        "x.csv",
        "question,context\nq,c\n",
        {},
        ASKED,
        r"line 2: there is no column 'answer' \(data\.answer_column\)",
    ),
    "an answer without a place": (
        "x.csv",
        "question,context,answer,answer_start\nq,c,,\nq,c,c,first\n",
        {},
        ASKED,
        r"line 3: the column 'answer_start' has 'first', which is no number of a character, from 0; .*answer_start_",
    ),
    "an answer at a part of a character": (
        "x.csv",
        "question,context,answer,answer_start\nq,c,c,0.5\n",
        {},
        ASKED,
        r"line 2: the column 'answer_start' has '0\.5', which is no number of a character",
    ),
    "no target column": (
        "x.csv",
        "text,title\na,b\n",
        {},
        ("text", "target"),
        r"line 2: there is no column 'target' \(data\.target_column\); the columns are 'text', 'title'",
    ),
    "no parquet": ("x.parquet", "text", {}, ALL, r"x\.parquet: no Parquet file.*data\.format"),
    "no hdf5": ("x.h5", "text", {}, ALL, r"x\.h5: no HDF5 file.*data\.format"),
    "no sqlite": ("x.sqlite", "text" * 99, {}, ALL, r"x\.sqlite: no SQLite file in TFF's.*data\.format"),
    "unknown extension": ("x.txt", "a", {}, ALL, r"data\.format: the format of '.*x\.txt' cannot be told.*csv, tsv"),
    "unknown format": ("x.csv", "a", {"format": "xml"}, ALL, r"data\.format=xml: must be one of .*csv"),
}


def read(spec, wants):
    for read in open_source(spec).pools.values():
        for _ in read(frozenset(wants)):
            pass


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused(tmp_path, case):
    name, content, settings, wants, message = CASES[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        read(DataSpec("file", files=(str(path),), **settings), wants)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_missing_files_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\na,b\n")
    there, gone = str(tmp_path / "x.csv"), str(tmp_path / "gone*.csv")
    for field, spec in (
        ("files", DataSpec("file", files=(gone,))),
        ("test_files", DataSpec("file", files=(there,), test_files=(gone,))),
        ("validation_files", DataSpec("file", files=(there,), validation_files=(gone,))),
    ):
        with pytest.raises(UserError, match=rf"data\.{field}: there is no file '.*gone\*\.csv'; correct"):
            open_source(spec)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.files: the folder '.*' has no file"):
        open_source(DataSpec("file", files=(str(tmp_path),)))


def test_a_file_named_twice_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(UserError, match=r"data\.files: the file .*x\.csv is named twice"):
        open_source(DataSpec("file", files=(str(path), str(tmp_path / "*.csv"))))


def test_a_client_in_two_files_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(leaf(["u"], {"u": ONE}))
    with pytest.raises(UserError, match=r"b\.json: the client 'u' is in .*a\.json as well; rename"):
        read(DataSpec("file", files=(str(tmp_path),)), ("client",))


def test_a_text_without_content_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("something")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(UserError, match=r"b\.txt: the file has no record"):
        read(DataSpec("file", files=(str(tmp_path),)), ("text",))


def hdf5(tmp_path, **features):
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        group = file.create_group("examples/c")
        for name, values in features.items():
            group[name] = values
    return DataSpec("file", files=(path,))


def test_hdf5_clients_with_other_than_examples_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"features of the client 'c' have different lengths"):
        read(hdf5(tmp_path, text=["a"], label=[1, 2]), ("text",))
    with pytest.raises(UserError, match=r"client 'c', example 2: the byte 0xff is not UTF-8"):
        read(hdf5(tmp_path, text=[b"a", b"\xff"]), ("text",))


def test_hdf5_of_other_structure_is_refused(tmp_path):
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        file["weights"] = [1.0]
    with pytest.raises(UserError, match=r"no group `examples` but weights; convert"):
        read(DataSpec("file", files=(path,)), ("text",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("INSERT INTO client_metadata VALUES ('c', 'train', 1)", r"'c' is 2 times .*'train'; merge"),
        ("UPDATE client_metadata SET split_name = 'a' || rowid", r"splits a1, a2 is called 'train'"),
    ],
)
def test_a_bad_sqlite_file_is_refused(tmp_path, change, message):
    path = str(tmp_path / "x.sqlite")
    with StoreWriter(path, {"text": tf.TensorSpec([], tf.string)}, {}) as writer:
        writer.add("train", "c", {"text": b"x"})
        writer.add("test", "c", {"text": b"x"})
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    with pytest.raises(UserError, match=message):
        open_source(DataSpec("file", files=(path,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "nope"}, r"data\.dataset=nope: must be one of stdlib"),
        ({"partition": "nope"}, r"data\.partition=nope: must be one of .*dirichlet"),
        ({"split": "nope"}, r"data\.split=nope: must be one of .*within_client"),
        ({"dataset": "file"}, r"data\.dataset=file needs data\.files"),
        ({"files": ("x",)}, r"data\.files=x has no effect with data\.dataset=stdlib: remove it"),
        ({"num_clients": 0}, r"data\.num_clients=0: must be at least 1"),
        ({"max_train_examples_per_client": 0}, r"data\.max_train_examples_per_client=0: must be at least 1"),
        ({"test_fraction": -1}, r"data\.test_fraction=-1\.0: must be at least 0"),
        ({"label_names": ("a", "a")}, r"data\.label_names=a,a has a name twice"),
    ],
)
def test_a_wrong_spec_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DataSpec(**settings)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label,who\n" + "".join(f"text {n},{n % 3},c{n % 5}\n" for n in range(30)))
    return str(path)


def load(tmp_path, byte_tokenizer, *files, **settings):
    spec = DataSpec("file", files=files, cache_dir=str(tmp_path / "cache"), **settings)
    encoder = datasets.SequenceClassificationEncoder(byte_tokenizer, datasets.label_names(spec), 16)
    return datasets.load(spec, encoder)


def test_an_unknown_label_in_the_test_split_is_refused(tmp_path, texts, byte_tokenizer):
    other = tmp_path / "test.csv"
    other.write_text("text,label\na,1\nb,9\n")
    message = r"test\.csv, line 3: the label '9' is not one of the 3 known labels \(0, 1, 2\); correct"
    with pytest.raises(UserError, match=message):
        load(tmp_path, byte_tokenizer, texts, test_files=(str(other),))
    assert [name for name in os.listdir(tmp_path / "cache") if not name.endswith((".lock", ".survey.npz"))] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_clients": 28}, r"data\.num_clients=28 is more than the 27 examples"),
        ({"partition": "column"}, r"data\.partition=column needs .*data\.client_column"),
        ({"client_column": "who", "num_clients": 6}, r"data\.num_clients=6 is more than the 5 clients"),
        ({"client_column": "who", "test_fraction": 5}, r"take 5 of 5 clients and leave none"),
        (
            {"client_column": "by", "label_column": "y"},
            r"'by' \(data\.client_column\); the columns are 'text', 'label'",
        ),
        ({"client_column": "who,by", "label_column": "y"}, r"there is no column 'by' \(data\.client_column\)"),
        ({"client_column": "by", "label_column": "y", "partition": "iid"}, r"no column 'y' \(data\.label_column\)"),
    ],
)
def test_impossible_dealing_is_refused(tmp_path, texts, byte_tokenizer, settings, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, byte_tokenizer, texts, **settings)


def test_dealing_words_by_label_is_refused(tmp_path, byte_tokenizer):
    path = tmp_path / "x.conll"
    path.write_text("a O\n\n" * 20)
    spec = DataSpec("file", files=(str(path),), partition="dirichlet", cache_dir=str(tmp_path))
    encoder = datasets.TokenClassificationEncoder(byte_tokenizer, ["O"], 16)
    with pytest.raises(UserError, match=r"data\.partition=dirichlet needs one label an example"):
        datasets.load(spec, encoder)


def test_a_client_whose_records_make_no_example_is_left_out(tmp_path, minilm):
    path = tmp_path / "x.csv"
    path.write_text("text,who\nlong enough for a block,a\nx,b\nlong enough as well,c\n")
    spec = DataSpec("file", files=(str(path),), client_column="who", test_fraction=0, cache_dir=str(tmp_path))
    found = datasets.load(spec, datasets.LanguageModelingEncoder(minilm, 8))
    assert found.train.client_ids == ["a", "c"]
    assert found.notes == ("1 train clients have too few records for an example, and are left out.",)


def test_an_unwritable_cache_is_refused(texts, byte_tokenizer):
    spec = DataSpec("file", files=(texts,), cache_dir="/proc/cache")
    encoder = datasets.SequenceClassificationEncoder(byte_tokenizer, ["0", "1", "2"], 16)
    with pytest.raises(UserError, match=r"data\.cache_dir: cannot write to /proc/cache .*; name a dir"):
        datasets.load(spec, encoder)


def test_a_wanted_image_that_is_none_is_refused(texts):
    with pytest.raises(UserError, match=r"line 2: the column 'text' has 'text 0', which is no image"):
        datasets.image_shape(DataSpec("file", files=(texts,)))
