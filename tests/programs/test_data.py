"""`programs.data` as a user runs it: a process, its output, its exit code."""

import os
import subprocess
import sys

import pytest

from programs import data
from tests.processes import run
from tff_tx.config import FIELDS


def row(output, *start):
    (found,) = (line for line in output.splitlines() if line.split()[: len(start)] == list(start))
    return found.split()[len(start) :]


def test_a_table_and_a_plot(tmp_path):
    (tmp_path / "x.csv").write_text(
        "text,label\n" + "".join(f"one two{' more' * (n % 3)},{n % 2}\n" for n in range(60))
    )
    settings = ["--dataset=file", "--data=x.csv", "--num_clients=5", "--test_fraction=10"]
    out, _ = run("data", *settings, "--plot=x.png", cwd=tmp_path, forked=False)
    same = ["records", "per", "client", "10", "10", "10", "10", "10"]
    assert row(out, "train", "5", "50") == same
    assert row(out, "test", "1", "10") == same
    lengths = [line for line in out.splitlines() if "tokens per record" in line]
    assert lengths[0].split()[-5:] == ["2", "2", "3", "4", "4"]
    shares = [line.split() for line in out.splitlines() if line.endswith("%")]
    assert [cells[0] for cells in shares if len(cells) == 6] == ["0", "1", "0", "1"]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_embedded_images(tmp_path):
    out, _ = run("data", "--dataset=digits", "--partition=shards", "--num_clients=20", cwd=tmp_path)
    assert row(out, "train", "20", "1617")[:3] == ["records", "per", "client"]
    assert "tokens" not in out
    assert os.listdir(tmp_path) == []


def test_tokenizers(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "é b"}\n' * 20)
    settings = ["--dataset=file", "--data=x.jsonl", "--num_clients=2", "--tokenizer=bytes"]
    out, _ = run("data", *settings, cwd=tmp_path)
    lengths = [line for line in out.splitlines() if "tokens per record" in line]
    assert lengths[0].split()[-5:] == ["4"] * 5
    assert "label" not in out


def test_a_first_line_that_is_no_header_is_a_record(tmp_path):
    (tmp_path / "x.csv").write_text("".join(f"{n % 3},a title {n},a text of {n}\n" for n in range(20)))
    out, _ = run("data", "--data=x.csv", cwd=tmp_path)
    assert "The first line is read as a record, as its values are such as those below: give names of columns" in out
    assert "--columns=column1,column2,column3 --task=sequence_classification" in out.splitlines()[-1]
    assert "--label_column=column1" in out.splitlines()[-1]
    (tmp_path / "y.tsv").write_text("".join(f"{('ham', 'spam')[n % 2]}\ta text of {n}\n" for n in range(20)))
    out, _ = run("data", "--data=y.tsv", cwd=tmp_path)
    assert "--columns=column1,column2 --task=sequence_classification --text_column=column2" in out.splitlines()[-1]
    (tmp_path / "w.csv").write_text("text,0\n" + "".join(f"a text of {n},{n % 2}\n" for n in range(20)))
    out, _ = run("data", "--data=w.csv", cwd=tmp_path)
    assert "A column is called 0: if the first line is no header, name the columns with --columns." in out
    (tmp_path / "z.jsonl").write_text('{"0": "ham"}\n' * 20)
    out, _ = run("data", "--data=z.jsonl", cwd=tmp_path)
    assert "header" not in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=nope"], "--dataset=nope: must be one of stdlib, digits, breast_cancer, file"),
        (["nope"], "The argument 'nope' belongs to no flag"),
        (["--dataset=file", "--data=bad.csv"], "bad.csv, line 2: 1 fields where"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, flags, message):
    (tmp_path / "bad.csv").write_text("text,label\nx\n")
    out, err = run("data", *flags, "--plot=x.png", cwd=tmp_path, code=2)
    assert out == ""
    (line,) = (line for line in err.splitlines() if line.startswith("Error: "))
    assert message in line
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == ["bad.csv"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--plot=gone/x.png", "--plot=gone/x.png: cannot write to "),
        ("--plot=x.doc", "--plot=x.doc: must end with .png, .pdf, .svg"),
        ("--tokenizer=.", "--tokenizer=.: must be whitespace, bytes, a directory"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, flag, message):
    (tmp_path / "x.csv").write_text("text,label\n" + "one,1\n" * 20)
    _, err = run("data", "--dataset=file", "--data=x.csv", flag, cwd=tmp_path, code=2)
    assert message in err
    assert os.listdir(tmp_path) == ["x.csv"]


def test_it_starts_without_tensorflow():
    check = "import sys, programs.data, tff_tx.run.data_report; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_it_shows_the_federation_that_train_makes():
    """The same flags, with the same defaults."""
    of_task, others = ("data", "task"), ("run.seed", "model.pretrained", "model.architecture")
    fields = {p: f for p, f in FIELDS.items() if f.section in of_task or p in others}
    assert {field.flag: field for field in data.PROGRAM.fields.values() if field.path in FIELDS} == {
        field.flag: field for field in fields.values()
    }
