"""The prepare scripts and the READMEs of `data/` on the real files."""

import importlib
import pathlib
import subprocess
import sys

import pandas as pd
import pytest

from data import prepare
from tests.shared_data import shared_file
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.sources import open_source

ROOT = pathlib.Path(prepare.__file__).parent
NAMES = sorted(path.parent.name for path in ROOT.glob("*/prepare.py"))


def script(name):
    return importlib.import_module(f"data.{name}.prepare")


@pytest.mark.parametrize("name", NAMES)
def test_the_real_files_are_the_ones_described(name):
    readme = (ROOT / name / "README.md").read_text()
    for file, checksum in script(name).CHECKSUMS.items():
        assert checksum in readme
        prepare.check(shared_file(f"{name}/{file}"), checksum)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("other")
    with pytest.raises(UserError, match=r"--input: .*x\.csv has the SHA-256 d9298a10d1b0\.\.\. and"):
        prepare.check(str(tmp_path / "x.csv"), "0" * 64)
    with pytest.raises(UserError, match=r"--input: there is no file '.*gone'; correct"):
        prepare.check(str(tmp_path / "gone"), "0" * 64)


def records(path, **settings):
    spec = DataSpec("file", files=(str(path),), **settings)
    return pd.concat(open_source(spec).pools["train"](frozenset(["text", "client"])))


@pytest.mark.slow
def test_video_games(tmp_path):
    source = shared_file("video_games/interactions.txt")
    script("video_games").convert(source, str(tmp_path / "x.csv"))
    found = records(tmp_path / "x.csv", client_column="user", text_column=("item",))
    assert len(found) == 287_107
    assert found["client"].nunique() == 31_013
    assert found["text"][found["client"] == "2"].tolist() == ["1", "18330", "21742", "18483", "22514"]


@pytest.mark.slow
def test_traffic(tmp_path):
    source = shared_file("traffic/los_speed.csv")
    script("traffic").convert(source, str(tmp_path / "x.csv"))
    found = records(tmp_path / "x.csv", client_column="sensor", text_column=("speed",))
    assert found["client"].value_counts().to_dict() == dict.fromkeys(found["client"].unique(), 2016)
    first = pd.read_csv(source).iloc[:, 0]
    assert found["client"].iloc[0] == first.name
    assert found["text"].iloc[:2016].astype(float).tolist() == first.tolist()


def test_questions_of_ncbi_disease(tmp_path):
    from data.ncbi_disease import questions

    source = shared_file("ncbi_disease/test.tsv")
    run = [sys.executable, "-m", "data.ncbi_disease.questions", f"--output={tmp_path}/x.csv"]
    for flags, asked, answered in (((), 309, 309), (("--unanswerable",), 309 + 401, 309)):
        command = [*run, f"--input={source}", *flags]
        subprocess.run(command, cwd=ROOT.parent, check=True, stdout=subprocess.DEVNULL, timeout=120)
        spec = DataSpec("file", files=(f"{tmp_path}/x.csv",))
        found = pd.concat(open_source(spec).pools["train"](frozenset(["question", "context", "answers"])))
        assert len(found) == asked
        assert found["answers"].map(len).sum() == answered
        assert set(found["question"]) == {questions.QUESTION}
        for context, answers in zip(found["context"], found["answers"]):
            assert all(context[start : start + len(text)] == text for text, start in answers)
    result = subprocess.run([*run, "--input=gone"], cwd=ROOT.parent, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "Error: --input: there is no file 'gone'" in result.stderr


def test_the_program(tmp_path):
    def run(*flags):
        command = [sys.executable, "-m", "data.video_games.prepare", *flags]
        return subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=120)

    source, target = shared_file("video_games/interactions.txt"), tmp_path / "x.csv"
    assert run(f"--input={source}", f"--output={target}").returncode == 0
    assert target.read_text().startswith("user,item\n1,6393\n1,13504\n")
    result = run(f"--input={target}", f"--output={tmp_path}/y.csv")
    assert result.returncode == 2
    assert "Error: --input" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
