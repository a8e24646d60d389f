"""Files of annotation tools, pandas, surveys and loggers: they are read as they are meant, or said to be unclear."""

import dataclasses
import gzip
import itertools
import json
import os

import numpy as np
import pandas as pd
import pytest

from tff_tx import datasets, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec, overview
from tff_tx.datasets.likely_task import likely_task, time_notes
from tff_tx.datasets.readers.files import format_name
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.times import Order, by_time
from tff_tx.tasks import labels

PATCHES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def read(path, *wants, **settings):
    """The wanted columns of a file, as lists."""
    chunks = list(open_source(DataSpec("file", files=(str(path),), **settings)).pools["train"](frozenset(wants)))
    return [pd.concat(chunks)[want].tolist() for want in wants]


def test_annotations_beside_texts_are_no_texts(tmp_path):
    """As brat has them; a text without annotations, or of another ending, is one all the same."""
    files = {"a.txt": "Anna slept.", "a.ann": "T1\tPER 0 4\tAnna", "b.txt": "Bob.", "notes.md": "Read me."}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert read(tmp_path, "client", "text") == [["a.txt", "b.txt", "notes.md"], ["Anna slept.", "Bob.", "Read me."]]
    (tmp_path / "b.md").write_text("Bob's.")
    spec = DataSpec("file", files=(str(tmp_path / "b.txt"), str(tmp_path / "b.md")), format="text")
    chunks = open_source(spec).pools["train"](frozenset({"text"}))
    assert sorted(pd.concat(chunks)["text"]) == ["Bob's.", "Bob."], "files that are named"


def test_words_and_tags_in_tsv_files_are_sentences(tmp_path):
    """If blank lines are between these; otherwise a table with a header is one."""
    path, sentence = tmp_path / "x.tsv", "IL-2\tB-gene\ngene\tI-gene\n.\tO\n"
    path.write_text(f"{sentence}\n{sentence}")
    assert read(path, "tokens", "tags") == [[["IL-2", "gene", "."]] * 2, [["B-gene", "I-gene", "O"]] * 2]
    path.write_text("Pharma\tO\nasp\tB\n\nalkaline\tB\nphosphatases\tI\n")  # BC2GM
    assert read(path, "tags") == [[["O", "B"], ["B", "I"]]]
    for table in (f"word\ttag\n{sentence}{sentence}", f"a\tb\n{sentence}", "a text\tO\n\nb text\tP\n\nc\tO\n"):
        path.write_text(table)
        assert isinstance(read(path, "row")[0][0], dict)
        assert "tokens" not in open_source(DataSpec("file", files=(str(path),))).columns()


SENTENCES = "Wolff B-PER\nsays O\n\nParis B-LOC\n"


@pytest.mark.parametrize(
    ("names", "content", "column", "expected"),
    [
        # As CoNLL's shared tasks call and write them, and as a table of texts and emotions.
        (("esp.train", "esp.testa", "esp.testb"), SENTENCES, "tags", ["B-PER", "O"]),
        (("train.txt", "val.txt", "test.txt"), "i feel low;sadness\nso glad;joy\n" * 3, "label", "sadness"),
    ],
)
def test_first_lines_tell_the_format_of_a_folder(tmp_path, names, content, column, expected):
    """Where names do not; texts of which one looks like a table are texts."""
    for name in names:
        (tmp_path / name).write_text(content)
    spec = DataSpec("file", files=(str(tmp_path),), columns=() if column == "tags" else ("text", "label"))
    pools = open_source(spec).pools
    assert {*pools} == {"train", "validation", "test"}
    assert all(next(pool([column]))[column][0] == expected for pool in pools.values())
    (tmp_path / names[0]).write_text("Once upon a time.\n")
    assert format_name(spec) == "text"


@pytest.mark.parametrize("name", ["x.tsv", "x.conll", "x.tsv.gz"])
def test_names_of_fields_above_words_are_no_word(tmp_path, name):
    """Nor is `tag` a class; words are called as in the header, and as in files without one."""
    write = gzip.open if name.endswith("gz") else open
    path = tmp_path / name
    with write(path, "wt") as file:
        file.write("Token\tPOS\tTag\n\nIL-2\tNN\tB-gene\n.\t.\tO\n\nNo\tDT\tO\n")
    words, tags = [["IL-2", "."], ["No"]], [["B-gene", "O"], ["O"]]
    assert read(path, "tokens", "tags") == [words, tags]
    (tmp_path / "joined.conll").write_text("a\tb\nx\tO\n\n" * 2)
    assert read(tmp_path / "joined.conll", "tokens", "tags") == [[["x"]] * 2, [["O"]] * 2]
    assert read(path, "tokens", "tags", text_column="Token", label_column="POS") == [words, [["NN", "."], ["DT"]]]
    named = {"columns": ("a", "b", "c"), "text_column": "a", "label_column": "c", "format": "conll"}
    assert read(path, "tokens", "tags", **named) == [words, tags]


@pytest.mark.parametrize("name", ["x.tsv", "x.conll"])
def test_sentences_with_a_byte_that_is_no_text_are_left_out(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"a\tO\n\xe9t\tO\n\nb\tB-x\n\nc\tO\n")
    with pytest.raises(UserError, match=r"line 2: the byte 0xe9 is not UTF-8"):
        read(path, "tokens")
    assert read(path, "tokens", "tags", on_bad_rows="skip") == [[["b"], ["c"]], [["B-x"], ["O"]]]


def test_labelled_sentences_of_abstracts_can_be_read(tmp_path):
    """As PubMed RCT has them, in files that say the split."""
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.txt").write_text(
            "###24293578\nOBJECTIVE\tTo see .\nRESULTS\tSeen .\n\n###2\nRESULTS\tNo .\n"
        )
    how = {"format": "tsv", "columns": ("label", "text"), "on_bad_rows": "skip"}
    for place in (tmp_path, tmp_path / "train.txt"):
        with pytest.raises(UserError, match="data.format=tsv, data.columns=label,text and data.on_bad_rows=skip"):
            read(place, "text")
        assert read(place, "text", **how) == [["To see .", "Seen .", "No ."]]
    assert {*open_source(DataSpec("file", files=(str(tmp_path),), **how)).pools} == {"train", "validation", "test"}


@pytest.mark.parametrize("orient", ["columns", "index", "split", "records", "table"])
@pytest.mark.parametrize("index", [range(3), [4, 2, 9]])
def test_tables_of_pandas(tmp_path, orient, index):
    table = pd.DataFrame({"text": ["a", "b", "c"], "label": ["x", "y", "x"]}, index=list(index))
    table.to_json(tmp_path / "x.json", orient=orient)
    assert read(tmp_path / "x.json", "text", "label") == [["a", "b", "c"], ["x", "y", "x"]]


def test_tables_of_pandas_with_numbers_for_columns(tmp_path):
    """Sensors by number, and no header at all; columns that are described are none of pandas', nor is a longer row."""
    table = pd.DataFrame({"773869": [1.5, 2.5, 3.5], "767541": [4.0, 5.0, 6.0]})
    table.to_json(tmp_path / "x.json")
    assert read(tmp_path / "x.json", "row") == [table.to_dict("records")]
    table.set_axis([0, 1], axis=1).to_json(tmp_path / "x.json", orient="split")
    numbers = read(tmp_path / "x.json", "numbers", numeric_columns=("0", "1"))[0]
    assert [row.tolist() for row in numbers] == table.to_numpy().tolist()
    content = {"columns": ["text", "label"], "data": [["a", "x"], ["b", "y", "z"]]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"record 2: a list where an object like"):
        read(tmp_path / "x.json", "text")
    (tmp_path / "x.json").write_text(json.dumps({**content, "columns": [{"name": "text"}, {"name": "label"}]}))
    with pytest.raises(UserError, match="line 1: there is no column 'label'.*; the columns are 'columns', 'data'"):
        read(tmp_path / "x.json", "label", label_column="label")


def test_what_annotators_rejected_is_no_example(tmp_path):
    rows = [{"text": f"{n}", "label": "P", "answer": a, "_task_hash": n} for n, a in enumerate(["accept", "reject"])]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"line 2: its annotator's `answer` is 'reject', .* data.on_bad_rows=skip"):
        read(tmp_path / "x.jsonl", "text")
    assert read(tmp_path / "x.jsonl", "text", on_bad_rows="skip") == [["0"]]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert read(tmp_path / "x.json", "text", on_bad_rows="skip") == [["0"]], "in an array"
    (tmp_path / "x.jsonl").write_text('{"text": "Shall I?", "answer": "reject"}')
    assert read(tmp_path / "x.jsonl", "text") == [["Shall I?"]], "of a data set of questions"


def test_messages_in_parts_and_within_objects(tmp_path):
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    messages.append({"role": "assistant", "content": "c"})
    (tmp_path / "x.jsonl").write_text(json.dumps({"talk": {"messages": messages}}))
    said = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    assert read(tmp_path / "x.jsonl", "messages", text_column=("talk.messages",)) == [[said]]
    prompt = '[{"name": "Ann"}]'
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": prompt, "target": "c"}))
    said[0]["content"] = prompt
    assert read(tmp_path / "x.jsonl", "messages") == [[said]], "a prompt that is JSON"
    messages[0]["content"].append({"type": "image_url", "image_url": {"url": "x"}})
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": messages}))
    with pytest.raises(UserError, match="line 1: the row is no conversation"):
        read(tmp_path / "x.jsonl", "messages")


def test_words_for_yes_and_no_are_two_labels():
    mixed = {"yes", "TRUE", "1", "ja", "no", "N", "falsch"}
    with pytest.raises(UserError, match="the labels .* are spellings of one; .* data.label_names=1,N, or correct them"):
        datasets.distinct_label_names(mixed, False, "ok")
    for names in (("no", "yes"), ("0", "1"), ("0", "yes")):
        number = datasets.label_lookup(names)
        assert {name: number(name) for name in mixed} == {
            name: int(name in ("yes", "TRUE", "1", "ja")) for name in mixed
        }
    for others in ({"yes", "no", "unknown"}, {"n", "y", "t"}, {"0", "1", "2"}, {"yes", "true"}):
        assert set(datasets.distinct_label_names(others, False, "ok")) == others
    assert datasets.label_lookup(("n", "y"))("t") is None, "of letters each is another one"
    assert datasets.label_lookup(("no", "yes", "maybe"))("true") is None
    assert datasets.label_lookup(("0", "1"))("O") is None, "it may be the zero"
    for names in (("ja", "nein"), ("yes", "no"), ("j", "n")):
        number = datasets.label_lookup(names)
        assert [number(name) for name in (*names, *"10")] == [0, 1, None, None], "the place, or what it says"


def test_labels_that_say_there_is_none(tmp_path):
    with pytest.raises(UserError, match="^data.label_column=y: the label 'NA' stands among numbers, as where there is"):
        datasets.distinct_label_names(("0", "1", "NA"), False, "y")
    assert datasets.distinct_label_names(("0", "NA"), True, "y"), "tags"
    assert datasets.distinct_label_names(("0.5", "1.5", "NA"), False, "y"), "values, which a report shows"
    found = labels.as_found(("N/A", "no", "yes"), 100)
    assert found.names == ("N/A", "no", "yes")
    assert "'N/A' is a class, as other labels are" in found.note
    assert labels.as_found(("no", "yes"), 100).note == ""
    with pytest.raises(UserError, match="the labels are 30 numbers from 0.5 to 29.5, and no classes"):
        labels.as_found(("NA", *(f"{n}.5" for n in range(30))), 100)
    orders = {datasets.ordered_label_names(found, False) for found in itertools.permutations(("2", "nan", "1", "10"))}
    assert orders == {("1", "2", "10", "nan")}, "a name, which is neither less nor more than a number"


def test_gaps_and_repeated_times_of_series_are_said(tmp_path):
    times = pd.date_range("2024-01-01", periods=60, freq="h").delete(range(30, 34))
    table = pd.DataFrame({"when": times, "load": range(len(times)), "client": "a"})
    table = pd.concat([table, table.tail(1)])
    expected = (
        "the column 'when' has 1 steps longer than the usual 3,600 s, up to 18,000 s and 1 times that come again; "
        "records are taken for evenly spaced"
    )
    table.to_csv(tmp_path / "x.csv", index=False)
    for time_column in (None, "when"):
        spec = DataSpec(
            "file",
            files=(str(tmp_path / "x.csv"),),
            numeric_columns=("load",),
            time_column=time_column,
            client_column="client",
            split="time",
            test_fraction=0.0,
            cache_dir=str(tmp_path),
        )
        model = tasks.ModelSpec(architecture="patch_transformer", config=PATCHES, context_length=8, horizons=(1,))
        assert expected in tasks.create_task("forecasting", spec, model, ClientConfig(), progress=False).notes
    found = overview.overview(spec)
    assert time_notes(spec, found, {}) == [expected]
    shuffled = dataclasses.replace(found, rows=[*found.rows[::-1], {"when": "", "load": 1, "client": "a"}])
    assert time_notes(spec, shuffled, {}) == [], "a report ends by no time that is missing"
    even, months = Order(), Order()
    even.find("a" * 9, [("", {"t": f"2024-01-0{n}"}) for n in range(1, 10)])
    months.find("a" * 9, [("", {"t": f"2024-0{n}-01"}) for n in range(1, 10)])
    assert even.notes() + months.notes() == []
    events, times = Order(), (10**9 + n * n for n in range(5000))
    events.find(itertools.repeat("a"), [("", {"time": time}) for time in times])
    assert events.notes() == []
    assert max(map(len, events._steps.values())) < 1100, "of as many as there are events"


def test_gaps_of_a_wide_table_are_counted_once(tmp_path):
    times = pd.date_range("2024-01-01", periods=60, freq="h").delete(range(30, 34))
    pd.DataFrame({"when": times, "a": 1.5, "b": 2.5, "c": 3.5}).to_csv(tmp_path / "x.csv", index=False)
    expected = "the column 'when' has 1 steps longer than the usual 3,600 s, up to 18,000 s;"
    for client_per_column in (True, False):
        spec = DataSpec("file", files=(str(tmp_path / "x.csv"),), client_per_column=client_per_column)
        (note,) = time_notes(spec, overview.overview(spec), {})
        assert note.startswith(expected)


def test_numbers_that_mean_none_are_asked_about(tmp_path):
    ages, rates = [20.5 + n for n in range(30)], [n / 10 for n in range(30)]
    table = pd.DataFrame({"age": [*ages, -99, -99], "rate": [*rates, 999, 999], "other": [*rates, 9.0, -1.5]})
    table.to_csv(tmp_path / "x.csv", index=False)
    found = overview.overview(DataSpec("file", files=(str(tmp_path / "x.csv"),)))
    assert [column.code for column in found.columns] == ["-99", "999", None]


def test_points_of_a_long_file_are_of_one_kind(tmp_path):
    """Also where the number that tells is far from the others."""
    numbers = ["12.345"] + ["7"] * 2500
    for told in ("1.234,50", "1.5"):
        (tmp_path / "x.csv").write_text("size;label\n" + "".join(f"{number};a\n" for number in [*numbers, told]))
        if told == "1.5":
            assert read(tmp_path / "x.csv", "numbers", numeric_columns=("size",))[0][0].tolist() == [12.345]
            continue
        with pytest.raises(UserError, match=r"line 2: the column 'size' has '12.345', whose point may group thousands"):
            read(tmp_path / "x.csv", "numbers", numeric_columns=("size",))


def test_doubts_about_numbers_are_said(tmp_path):
    """A comma that may be either, and a word among numbers; what is no doubt is not said."""
    rows = [f'"{n},123 EUR",{n if n else "unknown"},{n % 3},{n}.5' for n in range(1, 60)]
    (tmp_path / "x.csv").write_text("\n".join(["price,age,label,rate", *rows, '"7,001 EUR",unknown,1,2.5']))
    columns = overview.overview(DataSpec("file", files=(str(tmp_path / "x.csv"),))).columns
    assert [column.kind for column in columns] == ["number", "id", "category", "number"]
    assert columns[0].doubt.startswith("has numbers such as 1,123, whose comma may group thousands")
    assert columns[1].doubt.startswith("has numbers but for 'unknown': leave these empty")
    assert columns[2].doubt == columns[3].doubt == ""


def test_whole_numbers_beyond_those_of_floats_are_no_numbers(tmp_path):
    lines = [json.dumps({"key": 10**400 + n, "rate": n / 7, "label": n % 2}) for n in range(9)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    columns = overview.overview(DataSpec("file", files=(str(tmp_path / "x.jsonl"),))).columns
    assert [(column.kind, column.infinite) for column in columns] == [("id", 0), ("number", 0), ("category", 0)]


@pytest.mark.parametrize(
    "times",
    [
        ["2023-W51", "2023-W52", "2024-W01"],
        ["2023-12", "2024-01", "2024-10"],
        ["12/2023", "1/2024", "10/2024"],
        ["Dec 2023", "January 2024", "Sept. 2024"],
        ["Dec-98", "Jan-99", "Mar-05"],
        ["2023M12", "2024M01", "2024M02"],
        ["2023-Q4", "2024Q1", "2024 q2"],
        ["Q4 2023", "Q1-2024", "Q2/2024"],
        ["2024/03/01 9:05:11 AM GMT+1", "2024/03/01 9:00:00 AM GMT", "2024/03/01 11:05:12 AM GMT+1"],
        ["2024-03-01 09:05:11 +0100", "2024-03-01 09:00:00 +0000", "2024-03-01 11:05:12 +0100"],
        ["Jun 01, 2021", "Jun 12, 2021", "Jul 1, 2021"],
        ["30 May 2021 9:30", "31 May 2021 10:00", "1 June 2021 08:00"],
        ["30-Dec-98", "31-Jan-99", "01-Feb-05"],
        ["1/31/20", "2/1/20", "10/1/20"],
        ["12/31/10 8:26", "12/31/10 10:05", "1/1/11 7:00"],
        ["2019-1-5 3:00", "2019-1-5 10:00", "2019-12-1 0:00"],
        ["31.01.2021 9:00:00.500", "31.01.2021 10:00:00.250", "01.02.2021 10:00:00.125"],
    ],
)
def test_weeks_months_quarters_and_times_of_forms_are_times(tmp_path, times):
    rows = [("", {"when": time, "client": "a"}) for time in times]
    order = Order()
    assert order.find("aaa", rows) is None
    assert Order().find("aaa", rows[::-1])[1] == "when"
    assert by_time(rows[::-1], "when") == rows
    (tmp_path / "x.csv").write_text("\n".join(["when,text,label", *(f'"{time}",a b c,x' for time in times)]))
    assert overview.overview(DataSpec("file", files=(str(tmp_path / "x.csv"),))).columns[0].kind == "time"


def test_months_with_a_point_are_sorted_as_months_and_not_as_numbers():
    rows = [("", {"when": month}) for month in ("9.2024", "10.2024", "1.2025")]
    assert by_time(rows[::-1], "when") == rows
    rows = [("", {"when": number}) for number in ("1.2025", "9.2024", "13.2024")]
    assert by_time(rows[::-1], "when") == rows


@pytest.mark.parametrize("days", [["Dec 30", "Dec 31", "Jan 01"], ["Mar 1", "Mar 2", "Mar 3"]])
def test_days_without_a_year_are_no_times(tmp_path, days):
    """Nor are they the years of months: January 1 is not before December 30."""
    rows = [("", {"when": day, "client": "a"}) for day in days]
    assert Order().find("aaa", rows) is None
    with pytest.raises(UserError, match=f"the column 'when' has '{days[0]}', which is no time"):
        by_time(rows, "when")


def test_months_of_a_table_are_not_the_times_of_series(tmp_path):
    """3 homes by 40 months would be series if every home had one row in each."""
    draw = np.random.default_rng(1).integers
    months, homes = [f"{1 + n % 8}/{2010 + n // 8}" for n in range(40)], ("OWN", "RENT", "MORTGAGE")
    drawn = [(months[draw(40)], homes[draw(3)], str(draw(10**5)), "ab"[draw(2)]) for _ in range(120)]
    every = [(month, home, str(draw(10**5)), "ab"[draw(2)]) for month in months for home in homes]
    for rows, series in ((drawn, None), (every, "home")):
        (tmp_path / "x.csv").write_text("\n".join(["issued,home,amount,status", *map(",".join, rows)]))
        spec = DataSpec("file", files=(str(tmp_path / "x.csv"),))
        likely = likely_task(spec, overview.overview(spec), frozenset())
        assert likely["task.kind"] == ("forecasting" if series else "tabular_classification")
        assert likely.get("data.client_column") == series


def test_recordings_in_a_folder_beside_that_of_the_table(tmp_path):
    """As ESC-50 has them: a table in `meta` and recordings in `audio`."""
    for folder, name in (("meta", "esc50.csv"), ("audio", "1.wav"), ("audio", "2.wav")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("filename,category\n1.wav,dog\n2.wav,rain\n")
    (audio,) = read(tmp_path / "meta" / "esc50.csv", "audio")
    assert [os.path.realpath(one["path"]) for one in audio] == [str(tmp_path / "audio" / f"{n}.wav") for n in (1, 2)]


def _write(place, files):
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)


@pytest.mark.parametrize("above", ["", "speech_commands_v0.02/"])
def test_lists_of_files_say_the_splits_of_folders(tmp_path, above):
    """As Speech Commands has them, beside recordings of noise that are no class."""
    names = ("no/a.wav", "no/b.wav", "yes/a.wav", "yes/b.wav", "_background_noise_/tap.wav", "README.md")
    lists = {"validation_list.txt": "yes/b.wav\nno/gone.wav\n", "testing_list.txt": "no/a.wav\r\n", "LICENSE": ""}
    _write(tmp_path, {f"{above}{name}": text for name, text in {**dict.fromkeys(names, ""), **lists}.items()})
    pools = open_source(DataSpec("file", files=(str(tmp_path),))).pools
    found = {
        name: [os.path.relpath(row["audio"]["path"], tmp_path / above) for row in pd.concat(pool({"row"}))["row"]]
        for name, pool in pools.items()
    }
    assert found == {"train": ["no/b.wav", "yes/a.wav"], "validation": ["yes/b.wav"], "test": ["no/a.wav"]}
    assert read(tmp_path, "label") == [["no", "yes"]]
    _write(tmp_path, {f"{above}testing_list.txt": "no/a.wav\nno/b.wav\nyes/a.wav\n"})
    assert read(tmp_path, "label") == [["no", "no", "yes", "yes"]], "nothing would be left to train on"


def test_recordings_in_folders_of_a_folder_beside_that_of_the_table(tmp_path):
    """As UrbanSound8K has them: a table in `metadata`, recordings in `audio/fold1`, which it has in another column."""
    table = "slice_file_name,fold,class\n1.wav,5,dog\n2.wav,1,rain\n"
    names = ("audio/fold5/1.wav", "audio/fold1/2.wav", "audio/fold1/3.wav")
    _write(tmp_path, {"metadata/u.csv": table, **dict.fromkeys(names, "")})
    (audio,) = read(tmp_path / "metadata" / "u.csv", "audio")
    assert [os.path.realpath(one["path"]) for one in audio] == [str(tmp_path / name) for name in names[:2]]
    _write(tmp_path, {"audio/fold2/2.wav": ""})
    with pytest.raises(UserError, match="u.csv, line 3: '2.wav' may be .*fold1/2.wav or .*fold2/2.wav: write its path"):
        read(tmp_path / "metadata" / "u.csv", "audio")


@pytest.mark.parametrize(("folder", "end"), [("train_images/", "png"), ("", "png"), ("", "JPG")])
def test_names_of_pictures_without_their_endings(tmp_path, folder, end):
    """As Kaggle's APTOS and others have them; the name may be a patient's, who is the client."""
    _write(tmp_path, {"x.csv": "id_code,grade\n00a,2\n00b,0\n", f"{folder}00a.{end}": "a", f"{folder}00b.{end}": "b"})
    (tmp_path / "loop").symlink_to("loop")
    found = overview.overview(DataSpec("file", files=(str(tmp_path / "x.csv"),))).rows
    assert [row["id_code"] for row in found] == ["00a", "00b"]
    assert [os.path.relpath(row["image"]["path"], tmp_path) for row in found] == [f"{folder}00{n}.{end}" for n in "ab"]


def test_paths_of_windows_and_of_files_that_are_not_there(tmp_path):
    _write(tmp_path, {"x.csv": "file,label\nclips\\a.wav,x\n", "clips/a.wav": "", "y.csv": "image,label\nb/c.png,x\n"})
    assert read(tmp_path / "x.csv", "audio") == [[{"path": str(tmp_path / "clips" / "a.wav")}]]
    with pytest.raises(UserError, match=r"line 2: .* 'b/c.png', which is no image \(there is no such file from"):
        read(tmp_path / "y.csv", "pixels")


def test_a_file_that_a_table_lacks_is_not_that_of_another_table_beside_it(tmp_path):
    tables = {f"{name}/x.csv": "file,label\nclips/a.wav,x\nclips/b.wav,y\n" for name in "mn"}
    _write(tmp_path, {**tables, "m/clips/a.wav": "", "n/clips/a.wav": "", "n/clips/b.wav": ""})
    with pytest.raises(UserError, match="line 3: there is no column 'audio'"):
        read(tmp_path / "m" / "x.csv", "audio")
    assert len(read(tmp_path / "n" / "x.csv", "audio")[0]) == 2


def test_names_without_endings_are_no_pictures_if_some_have_none(tmp_path):
    """Nor are those of other folders."""
    files = {"there/x.csv": "id,grade\na,2\nb,0\n", "there/a.png": "a", "a.png": "a", "else/b.png": "b"}
    _write(tmp_path, files)
    found = overview.overview(DataSpec("file", files=(str(tmp_path / "there" / "x.csv"),)))
    assert [column.name for column in found.columns] == ["id", "grade"]
