"""Exports of annotation tools: spans of characters are tags of words, choices are labels."""

import json

import pandas as pd
import pytest

from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.likely_task import likely_task
from tff_tx.datasets.overview import overview
from tff_tx.datasets.sources import open_source

TEXT = "Anna Berg, of Bonn, met 張三."
SPANS = [(0, 9, "PER"), (14, 18, "LOC"), (24, 26, "PER")]
WORDS = ["Anna", "Berg", ",", "of", "Bonn", ",", "met", "張", "三", "."]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "B-PER", "I-PER", "O"]


def read(path, *wants, **settings):
    """The wanted columns of a file, as lists."""
    chunks = list(open_source(DataSpec("file", files=(str(path),), **settings)).pools["train"](frozenset(wants)))
    return [pd.concat(chunks)[want].tolist() for want in wants]


def objects(start="start", end="end", label="label", one=lambda label: label):
    return [{start: first, end: last, label: one(name)} for first, last, name in SPANS]


def label_studio(spans, **annotation):
    results = [{"from_name": "label", "to_name": "text", "type": "labels", "value": span} for span in spans]
    results.append({"type": "relation", "from_id": "a", "to_id": "b"})
    return {"id": 7, "data": {"text": TEXT}, "annotations": [{"result": results, **annotation}], "predictions": []}


IN_LIST = objects(label="labels", one=lambda label: [label])
EXPORTS = {
    "doccano": {"id": 1, "text": TEXT, "label": [list(span) for span in SPANS]},
    "newer doccano": {"text": TEXT, "entities": objects("start_offset", "end_offset"), "relations": [], "Comments": []},
    "Label Studio": label_studio(IN_LIST),
    "JSON-MIN": {"id": 7, "text": TEXT, "label": [{**span, "text": "..."} for span in IN_LIST], "annotator": 1},
    "Prodigy": {"text": TEXT, "tokens": [{"text": "Anna", "start": 0}], "spans": objects(), "_task_hash": 1},
}


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("in_lines", [True, False])
def test_spans_of_characters(tmp_path, export, in_lines):
    """Also where the first text has none, and the column that has spans is named."""
    empty = json.loads(json.dumps(EXPORTS[export]))
    if export == "Label Studio":
        empty["annotations"][0]["result"] = []
    for name in {"label", "entities", "spans"} & empty.keys():
        empty[name] = []
    if export in ("JSON-MIN", "Prodigy"):
        del empty["label" if export == "JSON-MIN" else "spans"]
    rows = [empty, EXPORTS[export]]
    (tmp_path / "x.json").write_text("\n".join(map(json.dumps, rows)) if in_lines else json.dumps(rows))
    name = next((name for name in ("entities", "spans") if name in EXPORTS[export]), "label")
    for settings in ({}, {"label_column": name}):
        assert read(tmp_path / "x.json", "tokens", "tags", **settings) == [[WORDS] * 2, [["O"] * len(WORDS), TAGS]]
    spec = DataSpec("file", files=(str(tmp_path / "x.json"),))
    source = open_source(spec)
    likely = likely_task(spec, overview(spec, source), source.columns())
    assert likely["task.kind"] == "token_classification"


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([[0, 99, "PER"]], "line 2: the span from 0 to 99, 'PER', which is no part of the text"),
        ([[4, 4, "PER"]], "line 2: the span from 4 to 4"),
        ([[0, 9, "PER"], [5, 9, "NAME"]], "line 2: the span from 5 to 9, 'NAME', which overlaps 0 to 9, 'PER'"),
        ([[0, 9]], "line 2: the column 'label' has something else than spans"),
        (None, "line 2: the columns 'text' and 'label' are no text and a list"),
    ],
)
def test_spans_that_cannot_be(tmp_path, spans, message):
    rows = [EXPORTS["doccano"], {**EXPORTS["doccano"], "label": spans}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=message):
        read(tmp_path / "x.jsonl", "tokens")
    assert read(tmp_path / "x.jsonl", "tags", on_bad_rows="skip") == [[TAGS]]


def test_what_annotators_of_label_studio_say(tmp_path):
    """Those who were cancelled say nothing, and of several the ground truth counts."""
    task, other = label_studio(IN_LIST), label_studio(IN_LIST[:1])["annotations"]
    ways = {
        "no annotation": [],
        "2 annotations that differ": task["annotations"] + other,
        None: [*task["annotations"], {**other[0], "was_cancelled": True}],
        "": [{**task["annotations"][0], "ground_truth": True}, *other],
    }
    for message, annotations in ways.items():
        (tmp_path / "x.json").write_text(json.dumps([task, {**task, "annotations": annotations}]))
        if message:
            with pytest.raises(UserError, match=f"record 2: the task 7 has {message}"):
                read(tmp_path / "x.json", "tags")
        else:
            assert read(tmp_path / "x.json", "tags") == [[TAGS, TAGS]]


@pytest.mark.parametrize("minimal", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_choices(tmp_path, minimal, several):
    chosen = [["good"], ["bad", "long"] if several else ["bad"]]
    rows = []
    for names in chosen:
        result = {"from_name": "mood", "type": "choices", "value": {"choices": names}}
        task = {"data": {"text": "a b"}, "annotations": [{"result": [result]}]}
        short = {"choices": names} if len(names) > 1 else names[0]
        rows.append({"text": "a b", "mood": short} if minimal else task)
    (tmp_path / "x.json").write_text(json.dumps(rows))
    want = "labels" if several else "label"
    expected = chosen if several else ["good", "bad"]
    assert read(tmp_path / "x.json", "text", want, label_column="mood") == [["a b", "a b"], expected]


def test_labels_beside_spans(tmp_path):
    """A text may have both; its label is what the label column has."""
    row = {"text": TEXT, "label": "news", "spans": objects()}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    assert read(tmp_path / "x.jsonl", "label") == [["news"]]
    assert read(tmp_path / "x.jsonl", "tags", label_column="spans") == [[TAGS]]


def test_annotations_of_brat(tmp_path):
    """Beside a text; a change of them is another content."""
    (tmp_path / "a.txt").write_text(TEXT)
    lines = [f"T{n}\t{name} {start} {end}\t..." for n, (start, end, name) in enumerate(SPANS)]
    (tmp_path / "a.ann").write_text("\n".join([*lines, "R1\tMet Arg1:T1 Arg2:T2", "#1\tNote T1\tsic"]))
    assert read(tmp_path, "client", "tokens", "tags") == [["a.txt"], [WORDS], [TAGS]]
    before = open_source(DataSpec("file", files=(str(tmp_path),))).digest("train")
    (tmp_path / "a.ann").write_text("T1\tPER 0 4;5 9\tAnna Berg")
    assert open_source(DataSpec("file", files=(str(tmp_path),))).digest("train") != before
    with pytest.raises(UserError, match=r"a\.ann, line 1: 'T1\\tPER 0 4;5 9\\tAnna Berg' is no entity in one part"):
        read(tmp_path, "tags")
