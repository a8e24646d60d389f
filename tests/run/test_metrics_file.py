import csv
import os
import pathlib

import numpy as np
import pandas as pd
import pytest

from tff_tx.run.callbacks import MetricsFile


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "metrics.csv")


def written(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path, rounds, start=1):
    file = MetricsFile(path, start - 1)
    for round_num in range(start, rounds + 1):
        file.append({"loss": 1 / round_num, **({"eval": 0.5} if round_num % 2 == 0 else {})}, round_num)
    return file


def test_rows_and_columns(path):
    write(path, 3)
    assert written(path) == [
        {"round_num": "1", "loss": "1.0", "eval": ""},
        {"round_num": "2", "loss": "0.5", "eval": "0.5"},
        {"round_num": "3", "loss": repr(1 / 3), "eval": ""},
    ]


def test_single_precision_is_written_as_it_is(path):
    MetricsFile(path, 0).append({"loss": np.float32(0.1), "count": np.int64(3)}, 1)
    assert written(path) == [{"round_num": "1", "loss": repr(float(np.float32(0.1))), "count": "3"}]


def test_a_file_without_rounds_has_its_key(path):
    MetricsFile(path, 0)
    assert pd.read_csv(path).columns.tolist() == ["round_num"]


def test_a_row_is_appended_not_the_file_rewritten(path):
    file = write(path, 2)
    before = os.stat(path)
    file.append({"loss": 0.0}, 3)
    after = os.stat(path)
    assert after.st_ino == before.st_ino  # a file that takes another's place is another
    assert 0 < after.st_size - before.st_size < 20


@pytest.mark.parametrize("tail", ["", "4,0.2", "4", "\0\0\0"])
@pytest.mark.parametrize("resumed", [1, 3, 4])
def test_resumed_after_a_kill_it_is_as_if_undisturbed(path, tmp_path, tail, resumed):
    undisturbed = str(tmp_path / "undisturbed.csv")
    write(undisturbed, 5)
    write(path, 3)
    with open(path, "a") as file:
        file.write(tail)
    write(path, 5, start=resumed)
    assert pathlib.Path(path).read_text() == pathlib.Path(undisturbed).read_text()


def test_nothing_is_written_where_nothing_is_to_be_removed(path):
    write(path, 3)
    before = os.stat(path).st_mtime_ns
    MetricsFile(path, 3)
    assert os.stat(path).st_mtime_ns == before
