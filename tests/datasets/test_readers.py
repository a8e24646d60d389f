"""Every format gives the records that were written into it."""

import io
import json

import h5py
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from tests.shared_data import shared_file
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec, StoreWriter
from tff_tx.datasets.sources import CHUNK_ROWS, open_source

TABLE = pd.DataFrame(
    {
        "label": ["3", "1", "3"],
        "title": ["Ünïcode, quoted", 'with "quotes"', "plain"],
        "text": ["one", "two\nlines", "three"],
        "who": ["O'Brien", "b", "b"],
    }
)


def read(spec, *wants, pool="train"):
    chunks = list(open_source(spec).pools[pool](frozenset(wants)))
    return pd.concat(chunks, ignore_index=True)


def file_spec(path, **settings):
    return DataSpec("file", files=(str(path),), **settings)


def check_table(path, **settings):
    spec = file_spec(path, text_column=("title", "text"), client_column="who", **settings)
    assert open_source(spec).columns() == {"text", "label", "client"}
    assert open_source(spec).has_clients
    found = read(spec, "text", "label", "client")
    assert found["text"].tolist() == (TABLE["title"] + " " + TABLE["text"]).tolist()
    assert found["label"].tolist() == ["3", "1", "3"]
    assert found["client"].tolist() == ["O'Brien", "b", "b"]
    return found["where"].tolist()


def test_csv(tmp_path):
    path = tmp_path / "x.csv"
    TABLE.to_csv(path, index=False)
    # The second record takes two lines.
    assert check_table(path) == [f"{path}, line {line}" for line in (2, 3, 5)]


def test_several_columns_are_a_client(tmp_path):
    """Other values are another one; a column that is called so is that, and with dots columns are within others."""
    rows = [{"store": "a/b", "item": "c"}, {"store": "a", "item": "b/c"}, {"store": "a\\", "item": "b/c"}]
    path = tmp_path / "x.jsonl"

    def clients(rows, client_column):
        pd.DataFrame(rows).to_json(path, orient="records", lines=True)
        spec = file_spec(path, client_column=client_column)
        assert "client" in open_source(spec).columns()
        return read(spec, "client")["client"].tolist()

    assert clients(rows, "store,item") == [r"a\/b/c", "a/b/c", r"a\\/b/c"]
    assert clients(rows, "item, store") == ["c/a/b", r"b\/c/a", "b\\/c/a\\"]
    assert clients([{**row, "store,item": 1} for row in rows], "store,item") == ["1"] * 3
    assert clients([{"of": row, "n": 2} for row in rows[1:2]], "of.store,n,of.item") == ["a/2/b/c"]
    assert "client" in open_source(file_spec(path, client_column="n,shop")).columns(), "no client would be silent"
    with pytest.raises(UserError, match=r"line 1: there is no column 'shop' \(data.client_column\)"):
        read(file_spec(path, client_column="n,shop"), "client")


def test_csv_without_a_header(tmp_path):
    path = tmp_path / "x.csv"
    TABLE.to_csv(path, index=False, header=False)
    where = check_table(path, columns=("label", "title", "text", "who"))
    assert where[0] == f"{path}, line 1"


def test_csv_with_a_byte_order_mark_and_a_long_text(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\n" + b"x" * 200_000 + b",a\r\n\r\n")
    found = read(file_spec(path), "text", "label")
    assert [len(text) for text in found["text"]] == [200_000]


def test_tsv_takes_quotes_as_they_are(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('text\tlabel\n"unclosed\ta\n')
    assert read(file_spec(path), "text")["text"].tolist() == ['"unclosed']


def test_jsonl(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = TABLE.to_dict("records")
    rows[1]["label"] = 1
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert check_table(path) == [f"{path}, line {line}" for line in (1, 3, 5)]


def test_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    TABLE.astype({"label": int}).to_parquet(path)
    assert check_table(path)[2] == f"{path}, row 3"


def test_parquet_with_word_tags(tmp_path):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"words": [["a", "b"]], "ner": [["O", "B-X"]]}).to_parquet(path)
    spec = file_spec(path, text_column=("words",), label_column="ner")
    assert "tags" in open_source(spec).columns()
    found = read(spec, "tokens", "tags")
    assert (found["tokens"][0], found["tags"][0]) == (["a", "b"], ["O", "B-X"])


def test_parquet_with_encoded_images(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, [5, 4, 3]).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    path = tmp_path / "x.parquet"
    rows = {"image": [{"bytes": png.getvalue(), "path": "x.png"}], "label": [7]}
    pd.DataFrame(rows).to_parquet(path)
    spec = file_spec(path)
    assert open_source(spec).columns() == {"pixels", "label"}
    found = read(spec, "pixels", "label")
    np.testing.assert_array_equal(found["pixels"][0], image)
    assert found["label"][0] == "7"


@pytest.mark.parametrize("separator", ["\t", " ", " NN "])
def test_conll(tmp_path, separator):
    path = tmp_path / "x.conll"
    lines = ["-DOCSTART-|O", "", "In|O", "New|B-LOC", "York|I-LOC", "", "", "Yes|O"]
    path.write_text("\n".join(lines).replace("|", separator))
    spec = file_spec(path)
    assert "tags" in open_source(spec).columns()
    found = read(spec, "tokens", "tags")
    assert found["tokens"].tolist() == [["In", "New", "York"], ["Yes"]]
    assert found["tags"].tolist() == [["O", "B-LOC", "I-LOC"], ["O"]]
    assert found["where"].tolist() == [f"{path}, line 3", f"{path}, line 8"]


@pytest.mark.parametrize(
    ("columns", "named"),
    [("number,tokens,pos,tags", {}), ("id,form,tag,iob", {"text_column": ("form",), "label_column": "iob"})],
)
def test_conll_with_named_columns(tmp_path, columns, named):
    path = tmp_path / "x.conll"
    path.write_text("1 In IN O\n2 Rome NNP B-LOC\n\n1 Yes UH O\n")
    found = read(file_spec(path, columns=tuple(columns.split(",")), **named), "tokens", "tags")
    assert found["tokens"].tolist() == [["In", "Rome"], ["Yes"]]
    assert found["tags"].tolist() == [["O", "B-LOC"], ["O"]]


def squad(*questions):
    """One article with one paragraph, in the form of version 2.0."""
    paragraph = {"context": "Oxygen is the chemical element with the symbol O.", "qas": list(questions)}
    return json.dumps({"version": "v2.0", "data": [{"title": "Oxygen", "paragraphs": [paragraph, paragraph]}]})


def test_squad(tmp_path):
    path = tmp_path / "dev.json"
    answers = [{"text": "O", "answer_start": 47}, {"text": "the symbol O", "answer_start": 36}]
    there = {"id": "1", "question": "Which symbol?", "answers": answers}  # of version 1.1, which has no is_impossible
    gone = {"id": "2", "question": "Which colour?", "answers": [], "plausible_answers": answers, "is_impossible": True}
    path.write_text(squad(there, gone))
    spec = file_spec(path, format="squad", client_column="title")
    assert open_source(spec).columns() == {"question", "context", "answers", "client"}
    found = read(spec, "question", "context", "answers", "client")
    assert found["question"].tolist() == ["Which symbol?", "Which colour?"] * 2
    assert found["answers"].tolist() == [[("O", 47), ("the symbol O", 36)], []] * 2
    assert set(found["client"]) == {"Oxygen"}
    path.write_text(squad({"id": "1", "question": "Which symbol?"}))  # to predict
    assert read(spec, "question", "context")["question"].tolist() == ["Which symbol?"] * 2
    with pytest.raises(UserError, match="there is no column 'answer'"):
        read(spec, "answers")
    for context, answers in zip(found["context"], found["answers"]):
        assert all(context[start : start + len(text)] == text for text, start in answers)
    assert found["where"][1] == f"{path}, 'Oxygen', question '2'"


def test_questions_in_a_table(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("q,c,a,at,who\nWhat?,so it is,it,3,ann\nWhy?,so it is,,,bob\n")
    columns = {"question_column": "q", "context_column": "c", "answer_column": "a", "answer_start_column": "at"}
    spec = file_spec(path, client_column="who", **columns)
    assert open_source(spec).columns() >= {"question", "context", "answers", "client"}
    found = read(spec, "question", "context", "answers")
    assert found["answers"].tolist() == [[("it", 3)], []]
    assert found["question"].tolist() == ["What?", "Why?"]


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl"])
def test_questions_as_hugging_face_keeps_squad(tmp_path, name):
    answers = [{"text": ["is", "it is"], "answer_start": [6, 3]}, {"text": [], "answer_start": []}]
    table = pd.DataFrame({"question": ["What?", "Why?"], "context": ["so it is"] * 2, "answers": answers})
    if name.endswith("parquet"):
        table.to_parquet(tmp_path / name)
    else:
        table.to_json(tmp_path / name, orient="records", lines=True)
    spec = file_spec(tmp_path / name)
    assert open_source(spec).columns() == {"question", "context", "answers"}
    assert read(spec, "answers")["answers"].tolist() == [[("is", 6), ("it is", 3)], []]


def test_texts_with_targets(tmp_path):
    path = tmp_path / "x.csv"
    TABLE.to_csv(path, index=False)
    spec = file_spec(path, target_column="title")
    assert open_source(spec).columns() == {"text", "target", "label", "messages"}
    found = read(spec, "text", "target")
    assert (found["text"].tolist(), found["target"].tolist()) == (TABLE["text"].tolist(), TABLE["title"].tolist())


def leaf(**users):
    data = {name: {"x": x, "y": y} for name, (x, y) in users.items()}
    return json.dumps({"users": list(data), "num_samples": [len(d["x"]) for d in data.values()], "user_data": data})


def test_leaf_folder(tmp_path):
    (tmp_path / "a.json").write_text(leaf(u=(["hello", "you"], [1, 0])))
    (tmp_path / "b.json").write_text(leaf(v=(["there"], [1])))
    found = read(file_spec(tmp_path), "text", "label", "client")
    assert found["client"].tolist() == ["u", "u", "v"]
    assert found["text"].tolist() == ["hello", "you", "there"]
    assert found["label"].tolist() == ["1", "0", "1"]
    assert found["where"][1] == f"{tmp_path}/a.json, user 'u', example 2"


def test_leaf_with_images_and_with_fields(tmp_path):
    images, fields = tmp_path / "i.json", tmp_path / "f.json"
    images.write_text(leaf(u=([[0.0, 0.5, 1.0, 0.25]], [3])))
    np.testing.assert_array_equal(read(file_spec(images), "pixels")["pixels"][0], [0, 0.5, 1, 0.25])
    fields.write_text(leaf(u=([["17", "Monday", "what it says"]], [4])))
    found = read(file_spec(fields, text_column=("2",)), "text", "label")
    assert found["text"].tolist() == ["what it says"]


def test_a_blank_in_leaf_is_a_class(tmp_path):
    """As Shakespeare has the next character of a text; a label that is empty is none."""
    path, said = tmp_path / "x.json", "To be, or not\nto be"
    path.write_text(leaf(u=([said[:n] for n in range(1, len(said))], list(said[1:]))))
    named = {" ": "' '", "\n": r"'\n'"}
    assert read(file_spec(path), "label")["label"].tolist() == [named.get(letter, letter) for letter in said[1:]]
    path.write_text(leaf(u=(["a"], [""])))
    with pytest.raises(UserError, match="the column 'label' has ''"):
        read(file_spec(path), "label")


def test_folder_of_texts(tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "1.txt").write_text("first\nlines\n")
    (tmp_path / "bob.md").write_text("second")
    (tmp_path / ".hidden").write_text("no")
    found = read(file_spec(tmp_path), "text", "client")
    assert found["client"].tolist() == ["bob.md", "ann/1.txt"]
    assert found["text"].tolist() == ["second", "first\nlines\n"]


def test_dialogue(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("Ann:\nHello.\nYou?\n\nBob:\n\n\nAnn:\nYes: me.")
    found = read(file_spec(path, format="dialogue"), "text", "client")
    assert found["client"].tolist() == ["Ann", "Ann"]
    assert found["text"].tolist() == ["Hello.\nYou?", "Yes: me."]
    assert found["where"].tolist() == [f"{path}, line 1", f"{path}, line 8"]


def test_hdf5(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for client in ("c2", "O'Brien"):
            group = file.create_group(f"examples/{client}")
            group["snippets"] = [b"caf\xc3\xa9", client.encode()]
            group["pixels"] = np.zeros([2, 3, 3], np.float32)
            group["label"] = [[1], [2]]
    spec = file_spec(path, text_column=("snippets",))
    found = read(spec, "text", "label", "client")
    assert found["text"].tolist() == ["café", "O'Brien", "café", "c2"]
    assert found["label"].tolist() == ["1", "2"] * 2
    assert found["client"].tolist() == ["O'Brien"] * 2 + ["c2"] * 2
    found = read(file_spec(path), "pixels")
    assert found["pixels"][0].shape == (3, 3)


def write_sqlite(path, *splits):
    spec = {
        "text": tf.TensorSpec([], tf.string),
        "label": tf.TensorSpec([], tf.int64),
        "pixels": tf.TensorSpec([4], tf.float32),
    }
    with StoreWriter(str(path), spec, {}) as writer:
        for split in splits:
            for client in ("b'b", "a"):
                writer.add(split, client, {"text": f"{split} {client}".encode(), "label": 5, "pixels": [0.5] * 4})


def test_sqlite_brings_its_own_splits(tmp_path):
    path = tmp_path / "x.sqlite"
    write_sqlite(path, "train", "heldout", "test")
    source = open_source(file_spec(path))
    assert list(source.pools) == ["train", "validation", "test"]
    assert source.columns() == {"text", "label", "pixels", "client"}
    found = read(file_spec(path), "text", "label", "client", "pixels", pool="validation")
    assert found["text"].tolist() == ["heldout b'b", "heldout a"]
    assert found["label"].tolist() == ["5", "5"]
    assert found["client"].tolist() == ["b'b", "a"]
    np.testing.assert_array_equal(found["pixels"][0], [0.5] * 4)


def test_a_named_test_file_replaces_the_files_own_test_split(tmp_path):
    path, other = tmp_path / "x.sqlite", tmp_path / "y.sqlite"
    write_sqlite(path, "train", "test")
    write_sqlite(other, "whatever")
    spec = file_spec(path, test_files=(str(other),))
    assert read(spec, "text", pool="test")["text"][0] == "whatever b'b"


def test_reading_streams(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "word,a\n" * (2 * CHUNK_ROWS + 1))
    chunks = open_source(file_spec(path)).pools["train"](frozenset(["text"]))
    assert [len(chunk) for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    # A mistake behind the first chunk is not seen before it is reached.
    path.write_text("text,label\n" + "word,a\n" * CHUNK_ROWS + "short\n")
    assert len(next(open_source(file_spec(path)).pools["train"](frozenset(["text"])))) == CHUNK_ROWS


def test_globs_and_several_files(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},x\n")
    assert read(file_spec(tmp_path / "*.csv"), "text")["text"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "settings", "wants", "number"),
    [
        ("ag_news/ag_news_7600.csv", {"columns": ("label", "title", "text")}, ["label"], 7600),
        ("ncbi_disease/train.tsv", {"format": "conll"}, ["tokens", "tags"], 5432),
        ("shakespeare/plays.txt", {"format": "dialogue"}, ["text", "client"], 7097),
    ],
)
def test_real_files(name, settings, wants, number):
    assert len(read(file_spec(shared_file(name), **settings), *wants)) == number
