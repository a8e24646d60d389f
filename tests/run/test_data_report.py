"""The data report: its tables and its plot, against data counted by hand."""

import os

import pytest

from tff_tx.config import RunConfig
from tff_tx.config.tools import DataReportConfig
from tff_tx.core.errors import UserError
from tff_tx.run.data_report import data_report


def row(report, *start):
    (found,) = (line for line in report.splitlines() if line.split()[: len(start)] == list(start))
    return found.split()[len(start) :]


def report(path, settings=None, **data):
    values = {"data.dataset": "file", "data.files": (str(path),), **{f"data.{k}": v for k, v in data.items()}}
    return "\n\n".join(data_report(RunConfig.of(values), DataReportConfig(**(settings or {}))))


def lengths(found):
    return [line.split()[-5:] for line in found.splitlines() if "tokens per record" in line]


def test_tables_and_a_plot(tmp_path):
    path, plot = tmp_path / "x.csv", tmp_path / "x.png"
    path.write_text("text,label\n" + "".join(f"one two{' more' * (n % 3)},{n % 2}\n" for n in range(60)))
    found = report(path, {"plot": str(plot)}, num_clients=5, test_fraction=10)
    same = ["records", "per", "client", "10", "10", "10", "10", "10"]
    assert row(found, "train", "5", "50") == same
    assert row(found, "test", "1", "10") == same
    assert lengths(found)[0] == ["2", "2", "3", "4", "4"]
    shares = [line.split() for line in found.splitlines() if line.endswith("%")]
    assert [cells[0] for cells in shares if len(cells) == 6] == ["0", "1", "0", "1"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_images_have_no_tokens():
    values = {"data.dataset": "digits", "data.partition": "shards", "data.num_clients": 20}
    found = "\n\n".join(data_report(RunConfig.of(values), DataReportConfig()))
    assert row(found, "train", "20", "1617")[:3] == ["records", "per", "client"]
    assert "tokens" not in found


def test_tokens_are_what_the_tokenizer_makes(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "é b"}\n' * 20)
    found = report(tmp_path / "x.jsonl", {"tokenizer": "bytes"}, num_clients=2)
    assert lengths(found)[0] == ["4"] * 5
    assert "label" not in found


def test_conversations_have_the_tokens_of_their_messages(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"instruction": "a b", "input": "", "output": "c"}\n' * 20)
    values = {"data.dataset": "file", "data.files": (str(tmp_path / "x.jsonl"),), "data.num_clients": 2}
    config = RunConfig.of({**values, "task.kind": "instruction_tuning"})
    found = "\n\n".join(data_report(config, DataReportConfig(tokenizer="bytes")))
    assert lengths(found)[0] == ["4"] * 5
    assert "Task: Instruction tuning" in found


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"plot": "gone/x.png"}, "report.plot=gone/x.png: cannot write to "),
        ({"plot": "x.doc"}, "report.plot=x.doc: must end with .png, .pdf, .svg"),
        ({"tokenizer": "."}, "report.tokenizer=.: must be whitespace, bytes, a directory"),
    ],
)
def test_wrong_settings_are_rejected(tmp_path, monkeypatch, settings, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("text,label\n" + "one,1\n" * 20)
    with pytest.raises(UserError, match=sentence):
        report("x.csv", settings)
    assert os.listdir(tmp_path) == ["x.csv"]


def test_how_files_are_written_and_the_command_of_the_likely_task(tmp_path):
    lines = "".join(f"a text of number {n};{n % 2}\n" for n in range(60))
    (tmp_path / "x.csv").write_bytes(("said;class\n" + lines + "cut\n").encode("utf-16"))
    found = report(tmp_path / "x.csv", on_bad_rows="skip")
    assert "x.csv: encoded as utf-16, values separated by semicolons" in found
    assert "1 of 61 rows of the train data are skipped, the first: " in found
    assert row(found, "class", "category") == ["0", "2", "0", "|", "1"]
    (command,) = (line for line in found.splitlines() if "programs.train" in line)
    assert "--on_bad_rows=skip --task=sequence_classification --text_column=said --label_column=class" in command
    found = report(tmp_path / "x.csv", on_bad_rows="skip", text_column="said", label_column="class")
    assert "records per client" in found


def test_what_would_be_skipped(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n" + "abc,no\nxy,yes\n" * 10 + "cut\n,\n")
    found = report(tmp_path / "x.csv")
    assert "2 of 22 rows of the train data are skipped, the first: " in found
    assert "--on_bad_rows=skip --task=" in found
    assert "Unless rows are skipped, training ends with: " in found.splitlines()[-1]
    assert "x.csv, line 22: 1 fields where" in found.splitlines()[-1]
    (tmp_path / "y.csv").write_text("said,class\n" + "".join(f"a b c {n},{n % 2}\n" for n in range(20)) + ",\n")
    assert "--label_column=class --on_bad_rows=skip" in report(tmp_path / "y.csv")
    (tmp_path / "x.csv").write_text("text,label\nabc,no\nxy,yes\n")
    with pytest.raises(UserError, match="no column 'gone'"):
        report(tmp_path / "x.csv", text_column="gone")


def test_what_a_task_makes_of_the_data(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n" + "abc,no\nxy,yes\n" * 10)
    values = {"data.files": (str(tmp_path / "x.csv"),), "task.kind": "sequence_classification", "task.max_length": 4}
    found = "\n\n".join(data_report(RunConfig.of(values), DataReportConfig(tokenizer="bytes")))
    assert "Labels: no, yes" in found
    assert "50.0% fill task.max_length=4" in found
    assert "input_ids: a b c </s>" in found
    assert "label: 1 (yes)" in found
    assert "Likely task" not in found


def test_columns_are_shown_before_what_is_wrong(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a b", "label": {"a": 1}}\n' * 20)
    values = {"data.dataset": "file", "data.files": (str(tmp_path / "x.jsonl"),), "data.label_column": "label"}
    sections = data_report(RunConfig.of({**values, "data.num_clients": 50}), DataReportConfig())
    assert "x.jsonl" in next(sections)
    assert row(next(sections), "label.a")
    with pytest.raises(UserError):
        next(sections)


def test_rows_with_infinite_numbers_are_left_out(tmp_path):
    """As tables of network flows have them, where a rate is a division by zero; the column is one of numbers."""
    rates = [f"{n}.5" if n % 20 else ("inf" if n else "Infinity") for n in range(60)]
    (tmp_path / "x.csv").write_text(
        "\n".join(["rate,size,label", *(f"{r},{n}.25,{n % 2}" for n, r in enumerate(rates))])
    )
    found = report(tmp_path / "x.csv", test_fraction=0)
    assert row(found, "rate", "number", "0", "57")
    assert "rate has Infinity in 3 rows, which is no finite number" in found
    assert "--numeric_columns=rate,size --on_bad_rows=skip" in found
    settings = {"numeric_columns": "rate,size", "label_column": "label", "test_fraction": 0}
    assert "3 of 60 rows of the train data are skipped" in report(tmp_path / "x.csv", on_bad_rows="skip", **settings)


@pytest.mark.parametrize(
    ("names", "kind"), [("date,load", "forecasting"), ("text,score", "sequence_regression")], ids=["series", "texts"]
)
def test_infinite_numbers_of_series_and_of_labels_are_left_out(tmp_path, names, kind):
    firsts = [
        f"2024-{1 + n // 28:02}-{1 + n % 28:02}" if kind == "forecasting" else f"So many as {n}" for n in range(99)
    ]
    lines = [f"{first},{'-inf' if n == 50 else n / 7}" for n, first in enumerate(firsts)]
    (tmp_path / "x.csv").write_text("\n".join([names, *lines]))
    found = report(tmp_path / "x.csv", test_fraction=0)
    assert f"--task={kind}" in found
    assert "has -inf in 1 rows, which is no finite number: leave such cells empty, or skip their rows" in found
    assert found.count("--on_bad_rows=skip") == 1


def test_a_folder_of_recordings_with_a_table(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.wav").write_bytes(b"RIFF")
    (tmp_path / "Thumbs.db").write_bytes(b"")
    found = report(tmp_path, test_fraction=0, num_clients=2)
    assert row(found, "train", "2", "4")[:3] == ["records", "per", "client"]
    lines = [f"{number}.wav,{'ab'[number % 2]}\n" for number in range(4)]
    (tmp_path / "metadata.csv").write_text("".join(["file_name,word\n", *lines]))
    found = report(tmp_path, test_fraction=0, num_clients=2)
    assert row(found, "train", "2", "4")[:3] == ["records", "per", "client"]
    assert "--task=audio_classification --label_column=word" in found


@pytest.mark.parametrize(
    ("name", "length", "is_series"),
    [
        (lambda n: f"V{n + 2}", lambda row: 4 + row % 9, True),  # as M4 has them
        (lambda n: f"V{n + 2}", lambda row: 12, False),
        (lambda n: f"V{n + 2}", lambda row: 12 - row % 2, False),
        (lambda n: f"d_{n}", lambda row: 12, True),  # as M5 has them
        (lambda n: f"2024-01-{n + 1:02}", lambda row: 12, True),
        (lambda n: f"{1990 + n}", lambda row: 12, True),
        (lambda n: f"x{n * n}", lambda row: 4 + row % 9, False),
    ],
)
def test_a_series_a_row_is_said(tmp_path, name, length, is_series):
    header = ",".join(["V1", *map(name, range(12))])
    rows = [",".join([f"Y{r}", *(str(r * n % 3) if n < length(r) else "" for n in range(12))]) for r in range(40)]
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]))
    found = report(tmp_path / "x.csv")
    assert ("Each row is a series, and each of the 12 columns" in found) == is_series
    assert ("Likely task" in found) != is_series
    labelled = [f"{row},{'ab'[n % 2]}" for n, row in enumerate(rows)]
    (tmp_path / "x.csv").write_text("\n".join([f"{header},label", *labelled]))
    assert "--label_column" not in report(tmp_path / "x.csv")
    assert "--task=tabular_classification" in report(tmp_path / "x.csv")
    if header.endswith(("11", "13")):
        (tmp_path / "x.csv").write_text("\n".join([f"{header},malware", *labelled]))
        assert "--label_column=malware" in report(tmp_path / "x.csv")


def test_a_label_that_says_there_is_none_is_a_class(tmp_path):
    """As SNLI has a dash where annotators disagree; what is named leaves no doubt."""
    lines = [f"a text of number {n},{('yes', 'no', '-')[n % 3]},{n / 7 if n % 5 else '-'}" for n in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(["text,gold_label,size", *lines]))
    assert "'-' is a class, as other labels are: if it says there is none, remove it" in report(tmp_path / "x.csv")
    assert "is a class" not in report(tmp_path / "x.csv", label_names="yes,no", on_bad_rows="skip")
    (tmp_path / "x.csv").write_text("\n".join(["text,label,size", *lines]).replace(",-,", ",maybe,"))
    assert "is a class" not in report(tmp_path / "x.csv")


def test_labels_that_training_does_not_know_are_left_out_where_rows_are_skipped(tmp_path):
    """As training does: MultiNLI's development files have '-' where annotators did not agree."""
    for name in ("train", "dev_matched"):
        labels = ["yes", "no"] * 20 + ["-"] * (name != "train")
        (tmp_path / f"nli_{name}.csv").write_text("text,label\n" + "".join(f"a text,{label}\n" for label in labels))
    with pytest.raises(UserError, match="'-' does not occur in the training data; .*, or leave such rows out with"):
        report(tmp_path)
    counts = [line.split()[:2] for line in report(tmp_path, on_bad_rows="skip").splitlines()]
    assert ["yes", "20"] in counts


@pytest.mark.parametrize("one_hot", [True, False])
def test_a_class_in_columns_of_0_and_1_is_said(tmp_path, one_hot):
    """As ISIC 2019 has it: the last of them alone would be the label."""
    rows = [f"{n}.5," + ",".join("1.0" if n % 3 == k else "0.0" for k in range(3)) for n in range(30)]
    rows += [] if one_hot else ["3.5,1.0,1.0,0.0"]
    (tmp_path / "x.csv").write_text("\n".join(["size,MEL,NV,BCC", *rows]))
    found = report(tmp_path / "x.csv")
    assert "--label_column=BCC" in found
    assert ("Each row has a 1 in one of MEL to BCC, which say its class: BCC alone tells" in found) == one_hot


def test_clients_without_labels_have_no_shares(tmp_path):
    lines = [f'{{"client": "c{n % 4}", "text": "a text of {n}", "label": {["a"] if n % 4 else []}}}' for n in range(40)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines).replace("'", '"'))
    found = report(tmp_path / "x.jsonl", test_fraction=0)
    assert "nan" not in found
    assert "--task=multi_label_classification --client_column=client" in found


@pytest.mark.parametrize("line", ["vhigh,vhigh,2,2,small,{n}", "{n},1.0,1.0,145.0,0.0", "p,x,s,p,{n},k"])
def test_a_first_line_with_a_value_twice_is_a_record_if_it_is_such_as_those_below(tmp_path, line):
    """As in UCI's tables; two columns of a name are a mistake."""
    path = tmp_path / "x.data"
    path.write_text("".join(f"{line.format(n=n % 7)}\n" for n in range(30)))
    found = report(path)
    assert "The first line is read as a record" in found
    assert "Of the first 30 rows" in found
    path.write_text("name,name,label\n" + "a b,c d,x\n" * 9)
    with pytest.raises(UserError, match="line 1: the column 'name' is there twice; rename one, or give the 3 names as"):
        report(path)
