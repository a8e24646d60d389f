"""The table of comparisons: the flags that its runs take of presets, and runs that are done."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import comparisons


@pytest.mark.parametrize("name", comparisons.CASES)
def test_presets_leave_it_to_the_table_which_records_are_for_what(name):
    flags = [line.split("=")[0] for line in comparisons.preset_flags(comparisons.CASES[name].preset)]
    assert "--task" in flags
    assert not {"--partition", "--num_clients", "--client_column", "--rounds", "--run_dir", "--flagfile"} & set(flags)


def test_the_table_is_made_of_the_runs_that_are_there(tmp_path, monkeypatch):
    def load(directory, rng):
        records = pd.DataFrame({"x": np.arange(6), "client": list("aaabbc")})
        return records, records

    ran = []
    monkeypatch.setattr(comparisons, "_run", lambda case, directory, flags, minilm: ran.append(flags) or {"loss": 0.5})
    case = comparisons.Case(load, "adult", ("loss",), 2, cohort=3, steps=2, batch_size=1, centralized_flags=("--x=1",))
    monkeypatch.setitem(comparisons.CASES, "toy", case)
    flags = type("Flags", (), {"run_dir": str(tmp_path), "data": "", "pretrained": None, "alone": 1})
    found = comparisons.compare("toy", 1, flags)
    row = comparisons.tell({"toy": {1: found}}).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["toy", "loss", "1", *["0.500"] * 3, "-"]
    # 2 rounds with 2 + 2 + 1 records are 10 examples, in one place as well; alone as many passes, 10 / 6, over 3.
    assert [_examples(flags) for flags in ran] == [12, 10, 5]
    assert ["--x=1" in flags for flags in ran] == [False, True, False]


def test_runs_that_are_done_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("it was done"))
    case = comparisons.CASES["adult"]
    (tmp_path / "results.json").write_text(json.dumps({"test": {"accuracy": 0.75}}))
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "test.json").write_text(json.dumps({"overall": {"accuracy": 0.75, "roc_auc": 0.8}}))
    assert comparisons._run(case, str(tmp_path), [], None)["roc_auc"] == 0.8, "only an evaluation has it"
    (tmp_path / "results.json").write_text(json.dumps({"test": {"accuracy": 0.7, "roc_auc": 0.9}}))
    assert comparisons._run(case, str(tmp_path), [], None)["roc_auc"] == 0.9


def _examples(flags):
    given = dict(flag[2:].split("=") for flag in flags)
    return int(given["rounds"]) * int(given["clients_per_round"]) * int(given["local_steps"])
