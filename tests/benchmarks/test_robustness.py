"""The table of attacks and defences: runs that are done are read, not repeated."""

import argparse
import json

import pytest

from benchmarks import robustness


def test_the_table_is_made_of_the_runs_that_are_there(tmp_path, monkeypatch):
    def done(attack, defence, **metrics):
        directory = tmp_path / f"{robustness._file_name(attack)}-{robustness._file_name(defence)}-1"
        directory.mkdir()
        (directory / "results.json").write_text(json.dumps({"test": metrics}))

    done("none", "mean", accuracy=0.9512)
    done("model replacement", "mean", accuracy=0.8, backdoor_success=0.9876)
    flags = argparse.Namespace(run_dir=str(tmp_path), seed=1)
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("it was done"))
    cells = {a: {"mean": robustness.run(a, "mean", flags, [])} for a in ("none", "model replacement")}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in robustness.tell(cells).splitlines()]
    assert lines[0] == ["defence", "none", "model replacement"]
    assert lines[2] == ["mean", "95.1", "80.0 (98.8)"]
