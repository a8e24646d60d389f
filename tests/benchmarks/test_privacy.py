"""What privacy costs: the script that measures rounds, and the table that is made of runs."""

import json
import math

import pytest

from benchmarks import privacy_cost, privacy_table
from benchmarks.workloads import WORKLOADS
from tff_tx.config import FIELDS


@pytest.mark.slow
def test_every_mechanism_is_timed(monkeypatch):
    monkeypatch.setattr(privacy_cost.runtime, "configure_tensorflow", lambda: None)  # TensorFlow runs already
    seconds = privacy_cost.measure(WORKLOADS["tiny"], rounds=2, warmup=1)
    assert set(seconds) == {"none", "gaussian", "tree", "banded, 16 bands", "adaptive"}
    assert all(len(taken) == 2 and min(taken) > 0 for taken in seconds.values())


def finish(directory, epsilon, loss):
    directory.mkdir(parents=True)
    (directory / "results.json").write_text(json.dumps({"test": {"loss": loss, "accuracy": 0.5}}))
    (directory / "config.json").write_text(json.dumps({"parameters": {"trainable": 1234}}))
    spent = "" if epsilon is None else ",privacy/epsilon"
    value = "" if epsilon is None else f",{epsilon}"
    (directory / "metrics.csv").write_text(f"round_num,time/round_seconds{spent}\n1,60{value}\n2,30{value}\n")


def test_a_cell_is_read_from_its_run(tmp_path):
    finish(tmp_path / "run", 3.5, 1.25)
    expected = {"results": {"loss": 1.25, "accuracy": 0.5}, "parameters": 1234, "epsilon": 3.5, "seconds": 90.0}
    assert privacy_table.read_cell(str(tmp_path / "run")) == expected
    assert privacy_table.read_cell(str(tmp_path / "nowhere")) is None


def test_cells_that_are_finished_are_not_run_again(tmp_path, monkeypatch, capsys):
    """Of four cells one is there, one fails: two are started with the flags of their mechanism."""
    started = []

    def run(command, **_):
        started.append(command)
        directory = tmp_path / command[-1].rsplit("/", 1)[-1]
        failed = "--target_epsilon=1" in command and "--dp_mechanism=tree" in command
        if not failed:
            finish(directory, math.inf if "--target_epsilon=inf" in command else 1.0, 2.0)
        return type("Result", (), {"returncode": int(failed)})()

    finish(tmp_path / "a_dp-preset-gaussian-1.0", 1.0, 1.75)
    monkeypatch.setattr(privacy_table.subprocess, "run", run)
    line = ["x", "--preset=flags/a_dp.flags", f"--out_dir={tmp_path}", "--mechanism=gaussian", "--mechanism=tree"]
    monkeypatch.setattr("sys.argv", [*line, "--epsilon=1", "--epsilon=inf", "--flags=--data=some.csv"])
    assert privacy_table.main() == 1
    assert len(started) == 3
    assert all({"--flagfile=flags/a_dp.flags", "--data=some.csv"} <= set(command) for command in started)
    assert {"--dp_mechanism=tree", "--sampling=min_separation", "--target_epsilon=1"} <= set(started[1])
    captured = capsys.readouterr()
    assert "failed: " in captured.err
    table = (tmp_path / "table.md").read_text()
    assert captured.out.strip() == table.strip()
    assert [row.split("|")[4].strip() for row in table.splitlines()[2:]] == ["gaussian", "gaussian", "tree"]
    assert "1.7500" in table


def test_mechanisms_of_the_table_are_flags_that_train_takes():
    for given in privacy_table.MECHANISMS.values():
        assert given[0].split("=")[1] in FIELDS["privacy.mechanism"].option.choices


@pytest.mark.parametrize("cell", [{"preset": "a", "trainable": "head only", "mechanism": "none", "epsilon": math.inf}])
def test_directories_have_no_blanks(cell):
    assert privacy_table.cell_name(cell) == "a-head_only-none-inf"
